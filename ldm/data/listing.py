"""The files below a folder: which are pictures, which are not, and which one a table means by a name."""

import logging
import os
import posixpath
from collections import Counter
from collections.abc import Collection
from functools import cached_property
from pathlib import Path, PurePosixPath

from ldm.data.reading import files_below, is_text, near, plainly
from ldm.system.image_files import counted, is_picture
from ldm.system.terminal import printable

log = logging.getLogger(__name__)
METADATA = ("metadata.jsonl", "metadata.csv")
SIDECARS = (".txt", ".caption")
GUESSED = 50  # names that are compared with all others; that takes long in a large folder


class NoSuchName(ValueError):
    """A name in a table that is no file of the folder; the message says what was looked for, and what is there."""


class Listing:
    """The files below a folder, looked up once.

    Args:
        root: the folder.
        broken: gets what cannot be listed: see `ldm.data.reading.files_below`.

    Attributes:
        files: names relative to the folder, with forward slashes.
    """

    def __init__(self, root: Path, broken: list[str]) -> None:
        self.root, self.files = root, files_below(root, (), broken)
        self.guessed = 0

    @cached_property
    def pictures(self) -> list[str]:
        """Names of the pictures, sorted."""
        return sorted(name for name in self.files if is_picture(self.root / name))

    def ending(self, suffixes: Collection[str]) -> list[str]:
        """Names with one of these suffixes (in small letters), sorted."""
        return sorted(name for name in self.files if Path(name).suffix.lower() in suffixes)

    def others(self, *known: str, read: Collection[str] | None = None) -> Counter[str]:
        """Files that are not read, by suffix; without those that end with one of `known`.

        Args:
            read: names of those that are; the pictures without it.
        """
        names = self.files.difference(self.pictures if read is None else read)
        return Counter(Path(name).suffix.lower() for name in names if not name.lower().endswith(known))

    def said(self) -> list[str]:
        """The pictures, and a log line that says how many there are and what else."""
        others = counted(self.others())
        log.info("%s: %d pictures%s", printable(self.root), len(self.pictures), f" (also there: {others})" if others else "")
        return self.pictures

    def sidecar(self, name: str) -> str | None:
        """The text file of a picture: of its name, with one of the suffixes of `SIDECARS`."""
        stem = name.removesuffix(PurePosixPath(name).suffix)
        return next((stem + suffix for suffix in SIDECARS if stem + suffix in self.files), None)

    def metadata(self) -> list[str]:
        """The metadata files, that of the root first; of two in one folder, the one that is first in `METADATA`."""
        found: dict[str, str] = {}
        for kind in METADATA:
            for name in self.files:
                if posixpath.basename(name) == kind:
                    found.setdefault(posixpath.dirname(name), name)
        return [found[folder] for folder in sorted(found)]

    def find(self, name: str, folder: str = "") -> str:
        """The file, relative to the root, that a table in a folder below it means by a name.

        Names are relative to the table's folder, or absolute; nothing outside the root is meant (links inside it are followed,
        as everywhere). Where there is no such file, backslashes count as slashes, and accents as the same however they are
        written.

        Raises:
            NoSuchName: there is none.
        """
        if not is_text(name) or "\0" in name:
            raise NoSuchName(f"no such file: {printable(name[:200])}")
        for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
            path = inside(self.root, spelling, folder)
            if path is None:
                continue
            if path in self.files or self._hidden(path):
                return path
            like = self._plain.get(plainly(path))
            if like is not None and plainly(like, capitals=True) == plainly(path, capitals=True):
                return like
        wanted = inside(self.root, name.replace("\\", "/"), folder)
        if wanted is None:
            raise NoSuchName(f"{printable(name[:200])} is outside of {printable(self.root)}{self.like(posixpath.basename(name))}")
        raise NoSuchName(f"no such file: {printable(name[:200])}{self.like(wanted)}")

    def _hidden(self, path: str) -> bool:
        """Whether a file is there that no listing shows."""
        try:
            return any(part[0] == "." for part in path.split("/") if part) and (self.root / path).is_file()
        except (OSError, ValueError):  # too long for a name
            return False

    @cached_property
    def _plain(self) -> dict[str, str]:
        return {plainly(name): name for name in self.files}

    @cached_property
    def _by_stem(self) -> dict[str, str]:
        """Files by their path without the suffix, and by that without the folders."""
        names = sorted(self.files, reverse=True)
        short = {plainly(PurePosixPath(name).stem): name for name in names}
        return short | {plainly(name.removesuffix(PurePosixPath(name).suffix)): name for name in names}

    def like(self, path: str) -> str:
        """What is there instead, for a message."""
        stem = path.removesuffix(PurePosixPath(path).suffix)
        hits = (self._plain.get(plainly(path)), self._by_stem.get(plainly(stem)), self._by_stem.get(plainly(posixpath.basename(stem))))
        hit = next(filter(None, hits), None)
        if hit:
            return f" ({printable(hit)} is there)"
        self.guessed += 1
        return near(path, self.files) if self.guessed <= GUESSED else ""


def inside(root: Path, name: str, folder: str = "") -> str | None:
    """A name in a folder below `root`, or an absolute one, relative to `root`; none if it lies outside."""
    if os.path.isabs(name):
        path = Path(os.path.normpath(name))
        roots = (os.path.abspath(root), os.path.realpath(root))
        return next((path.relative_to(one).as_posix() for one in roots if path.is_relative_to(one)), None)
    relative = posixpath.normpath(posixpath.join(folder, name))
    return None if relative == ".." or relative.startswith("../") else relative
