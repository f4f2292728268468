"""The files below a folder: images, other files, and look-up of names in tables."""

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
GUESSED = 50  # maximum number of names for which similar names are searched, which is slow in a large folder


class NoSuchName(ValueError):
    """A name in a table that is not a file of the folder; the message gives the name and similar existing ones."""


class Listing:
    """The files below a folder, listed once.

    Args:
        root: the folder.
        broken: list to which unreadable entries are added: see `ldm.data.reading.files_below`.

    Attributes:
        files: names relative to the folder, with forward slashes.
    """

    def __init__(self, root: Path, broken: list[str]) -> None:
        self.root, self.files = root, files_below(root, (), broken)
        self.guessed = 0

    @cached_property
    def pictures(self) -> list[str]:
        """Names of the image files, sorted."""
        return sorted(name for name in self.files if is_picture(self.root / name))

    def ending(self, suffixes: Collection[str]) -> list[str]:
        """Names with one of these suffixes (in lower case), sorted."""
        return sorted(name for name in self.files if Path(name).suffix.lower() in suffixes)

    def others(self, *known: str, read: Collection[str] | None = None) -> Counter[str]:
        """Number of unread files by suffix, without those that end with one of `known`.

        Args:
            read: names of the files that are read; the images if None.
        """
        names = self.files.difference(self.pictures if read is None else read)
        return Counter(Path(name).suffix.lower() for name in names if not name.lower().endswith(known))

    def said(self) -> list[str]:
        """The images; logs their number and other files."""
        others = counted(self.others())
        log.info("%s: %d pictures%s", printable(self.root), len(self.pictures), f" (also there: {others})" if others else "")
        return self.pictures

    def sidecar(self, name: str) -> str | None:
        """The text file of an image: the same name, with one of the suffixes of `SIDECARS`."""
        stem = name.removesuffix(PurePosixPath(name).suffix)
        return next((stem + suffix for suffix in SIDECARS if stem + suffix in self.files), None)

    def metadata(self) -> list[str]:
        """The metadata files, the root's first; of two in one folder, the first in `METADATA`."""
        found: dict[str, str] = {}
        for kind in METADATA:
            for name in self.files:
                if posixpath.basename(name) == kind:
                    found.setdefault(posixpath.dirname(name), name)
        return [found[folder] for folder in sorted(found)]

    def find(self, name: str, folder: str = "") -> str:
        """Find the file, relative to the root, for a name in a table in a folder below it.

        Names are relative to the table's folder, or absolute, and must be inside the root (links inside it are followed). If there is
        no such file, backslashes are tried as slashes, and Unicode is normalised.

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
        """Whether a hidden file exists."""
        try:
            return any(part[0] == "." for part in path.split("/") if part) and (self.root / path).is_file()
        except (OSError, ValueError):  # too long for a name
            return False

    @cached_property
    def _plain(self) -> dict[str, str]:
        return {plainly(name): name for name in self.files}

    @cached_property
    def _by_stem(self) -> dict[str, str]:
        """Files by their path without suffix, and by their name without suffix."""
        names = sorted(self.files, reverse=True)
        short = {plainly(PurePosixPath(name).stem): name for name in names}
        return short | {plainly(name.removesuffix(PurePosixPath(name).suffix)): name for name in names}

    def like(self, path: str) -> str:
        """A similar existing file, for messages."""
        stem = path.removesuffix(PurePosixPath(path).suffix)
        hits = (self._plain.get(plainly(path)), self._by_stem.get(plainly(stem)), self._by_stem.get(plainly(posixpath.basename(stem))))
        hit = next(filter(None, hits), None)
        if hit:
            return f" ({printable(hit)} exists)"
        self.guessed += 1
        return near(path, self.files) if self.guessed <= GUESSED else ""


def inside(root: Path, name: str, folder: str = "") -> str | None:
    """A name in a folder below `root`, or an absolute one, relative to `root`; None if it is outside."""
    if os.path.isabs(name):
        path = Path(os.path.normpath(name))
        roots = (os.path.abspath(root), os.path.realpath(root))
        return next((path.relative_to(one).as_posix() for one in roots if path.is_relative_to(one)), None)
    relative = posixpath.normpath(posixpath.join(folder, name))
    return None if relative == ".." or relative.startswith("../") else relative
