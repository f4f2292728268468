"""What all sets of files share: which files there are, which are held out, and what happens when one cannot be read."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from torch.utils.data import Dataset

from ldm.data.batch import Sample
from ldm.data.geometry import UnreadableImage
from ldm.errors import MissingFile, UserError
from ldm.seeding import derive

log = logging.getLogger(__name__)
Split = Literal["all", "train", "validation"]


class Reading(Dataset[Sample], ABC):
    """Samples from files. One that cannot be read is replaced by the next, which carries its name and the reason.

    Attributes:
        what: the set, as messages name it.
        broken: entries that were found wrong while the set was opened, each "file:line: reason"; they are left out.
        class_names: names of the classes below "label", "boxes" and "segmentation", where they are known.
    """

    what: str = "data"
    broken: list[str]
    class_names: dict[str, list[str]]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int, seed: int, place: int) -> Sample:
        """Sample `index` with the crop and flip of a place in the run's order.

        Raises:
            UnreadableImage: says why not.
        """

    @abstractmethod
    def where(self, index: int) -> str:
        """The file of a sample, as messages name it."""

    def original_size(self, index: int) -> tuple[int, int] | None:
        """Width and height of the stored picture, where that can be told without reading it."""
        return None

    def __getitem__(self, index: int) -> Sample:
        return self.varied(index, 0, 0)

    def varied(self, index: int, seed: int, place: int) -> Sample:
        """Sample `index`, or the next that can be read, at a place in the run's order.

        Raises:
            UserError: no sample can be read.
        """
        skipped: list[str] = []
        for attempt in range(len(self)):
            current = (index + attempt) % len(self)
            try:
                return self.read(current, seed, place) | ({"skipped": skipped} if skipped else {})
            except UnreadableImage as error:
                skipped.append(f"{self.where(current)}: {error}")
        raise UserError(f"{self.what}: none of its {len(self)} images can be read; the first: {skipped[0]}")

    def report_broken(self, left: int, total: int) -> None:
        """Say how many entries were left out.

        Raises:
            UserError: nothing is left.
        """
        if left == 0:
            first = f"; the first: {self.broken[0]}" if self.broken else ""
            raise UserError(f"{self.what}: none of its {total} entries can be used{first}")
        if self.broken:
            log.warning("%s: %d entries are left out, %d remain; the first: %s", self.what, len(self.broken), left, self.broken[0])


def require(path: Path, what: str) -> Path:
    """The path, which must be there.

    Raises:
        MissingFile: it is not.
    """
    if not path.exists():
        raise MissingFile(f"{what} {str(path)!r}: not there; put it there or set its path")
    return path


def first_of(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of several places that is there.

    Raises:
        MissingFile: none is; names all.
    """
    for name in names:
        if (root / name).exists():
            return root / name
    raise MissingFile(f"{what}: no {' and no '.join(names)} in {str(root)!r}; put it there or set the path")


def files_below(root: Path, suffixes: Collection[str], broken: list[str]) -> set[str]:
    """Relative names (with forward slashes) of the files below a folder.

    Links are followed, but not back into a folder that the way to them has been through. What is hidden (`.ipynb_checkpoints`,
    `._a.jpg`) is left out.

    Args:
        suffixes: in small letters, with their dots; none: every file counts.
        broken: gets a line for each folder that cannot be read and each name that is not UTF-8 (no report could show it).
    """
    found: set[str] = set()
    waiting: list[tuple[str, tuple[Path, ...]]] = [("", ())]  # a folder, and the real folders of the links on the way to it
    while waiting:
        prefix, links = waiting.pop()
        try:
            entries = sorted(os.scandir(root / prefix), key=lambda entry: entry.name)
        except OSError as error:
            broken.append(f"{shown(str(root / prefix))}: cannot be read ({error.strerror})")
            continue
        for entry in entries:
            name = prefix + entry.name
            if entry.name[0] == ".":
                continue
            if _is_folder(entry):
                passed = (*links, Path(entry.path).parent.resolve()) if entry.is_symlink() else links
                waiting += [] if entry.is_symlink() and _leads_back(entry, passed) else [(name + "/", passed)]
            elif (entry.is_symlink() or entry.is_file()) and (not suffixes or Path(name).suffix.lower() in suffixes):
                if is_text(name):
                    found.add(name)
                else:
                    broken.append(f"{root}/{shown(name)}: a name that is not UTF-8")
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _leads_back(entry: os.DirEntry[str], passed: Sequence[Path]) -> bool:
    """Whether a link leads to a folder that holds one of these real folders."""
    target = Path(entry.path).resolve()
    return any(folder.is_relative_to(target) for folder in passed)


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8; names of files need not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(name: str) -> str:
    """A name as any report can show it: what is not UTF-8 as its code."""
    return name.encode("utf-8", "backslashreplace").decode()


def held_out_names(names: Sequence[str], share: float) -> set[str]:
    """Names of the held-out files: by a hash of each name, so that new files move no old one; at least one."""
    held = {name for name in names if derive("held out", name) % 10**6 < share * 10**6}
    return held or {min(names, key=lambda name: derive("held out", name))}


def of_split(names: Sequence[str], split: Split, share: float) -> list[str]:
    """The names that belong to a split, in their order."""
    if split == "all":
        return list(names)
    held = held_out_names(names, share)
    return [name for name in names if (split == "validation") == (name in held)]


def listed(path: Path) -> list[tuple[int, str]]:
    """Lines of a list file with their numbers, without empty ones.

    Raises:
        MissingFile: no such file.
        UserError: not text, or empty.
    """
    require(path, "list of images")
    lines = [(number, line.strip()) for number, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    if not lines:
        raise UserError(f"{path}: an empty list of images")
    return lines


def read_text(path: Path) -> str:
    """A text file.

    Raises:
        UserError: not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error})") from error
