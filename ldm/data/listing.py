"""The files below a folder: images, other files, and look-up of names in tables."""

import logging
import os
import posixpath
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from ldm.data.files import hint, is_text, normalized
from ldm.system.image_files import counted, is_picture
from ldm.system.terminal import printable

log = logging.getLogger(__name__)
METADATA = ("metadata.jsonl", "metadata.csv")
SIDECARS = (".txt", ".caption")
MAX_HINTS = 50  # names for which similar ones are searched, which is slow in a large folder


class NoSuchName(ValueError):
    """A name in a table that is not a file of the folder; the message gives the name and similar existing ones."""


class Listing:
    """The files below a folder, listed once.

    Links are followed, except those that lead back to a parent folder. Hidden files and folders (`.ipynb_checkpoints`, `._a.jpg`) are
    skipped.

    Args:
        root: the folder.
        broken: list to which unreadable folders and names that are not UTF-8 are added.

    Attributes:
        files: names relative to the folder, with forward slashes.
    """

    def __init__(self, root: Path, broken: list[str]) -> None:
        self.root, self.broken, self.hints = root, broken, 0
        self.files: set[str] = set()
        waiting: list[tuple[str, tuple[Path, ...]]] = [("", ())]  # folders, with the resolved folders of the links that lead there
        while waiting:
            prefix, links = waiting.pop()
            try:
                entries = sorted(os.scandir(root / prefix), key=lambda entry: entry.name)
            except OSError as error:
                broken.append(f"{printable(str(root / prefix))}: cannot be read ({error.strerror})")
                continue
            for entry in entries:
                if entry.name[0] == ".":
                    continue
                if not _is_folder(entry):
                    self._add(prefix + entry.name, entry)
                elif not entry.is_symlink():
                    waiting.append((prefix + entry.name + "/", links))
                elif not _leads_back(entry, passed := (*links, Path(entry.path).parent.resolve())):
                    waiting.append((prefix + entry.name + "/", passed))

    def _add(self, name: str, entry: os.DirEntry[str]) -> None:
        if not _is_file(entry):
            return
        if is_text(name):
            self.files.add(name)
        else:
            self.broken.append(f"{self.root}/{printable(name)}: a name that is not UTF-8")

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

    def log_pictures(self) -> list[str]:
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
            similar = self._normalized.get(normalized(path))
            if similar is not None and normalized(similar, fold_case=False) == normalized(path, fold_case=False):
                return similar
        wanted = inside(self.root, name.replace("\\", "/"), folder)
        if wanted is None:
            raise NoSuchName(f"{printable(name[:200])} is outside of {printable(self.root)}{self.hint(posixpath.basename(name))}")
        raise NoSuchName(f"no such file: {printable(name[:200])}{self.hint(wanted)}")

    def _hidden(self, path: str) -> bool:
        """Whether a hidden file exists."""
        try:
            return any(part[0] == "." for part in path.split("/") if part) and (self.root / path).is_file()
        except (OSError, ValueError):  # too long for a name
            return False

    @cached_property
    def _normalized(self) -> dict[str, str]:
        return {normalized(name): name for name in self.files}

    def hint(self, path: str) -> str:
        """A similar existing file, for messages: see `ldm.data.files.hint`."""
        self.hints += 1
        return hint(path, self.files) if self.hints <= MAX_HINTS else ""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file or a broken link; reading others (a pipe, a device) might not end."""
    if entry.is_symlink() and not os.path.exists(entry.path):
        return True
    return entry.is_file()


def _leads_back(entry: os.DirEntry[str], passed: Sequence[Path]) -> bool:
    """Whether a link leads to a folder that contains one of these folders."""
    target = Path(entry.path).resolve()
    return any(folder.is_relative_to(target) for folder in passed)


def inside(root: Path, name: str, folder: str = "") -> str | None:
    """A name in a folder below `root`, or an absolute one, relative to `root`; None if it is outside."""
    if os.path.isabs(name):
        path = Path(os.path.normpath(name))
        roots = (os.path.abspath(root), os.path.realpath(root))
        return next((path.relative_to(one).as_posix() for one in roots if path.is_relative_to(one)), None)
    relative = posixpath.normpath(posixpath.join(folder, name))
    return None if relative == ".." or relative.startswith("../") else relative
