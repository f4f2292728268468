"""What all sets of files share: which files there are, which are held out, and what happens when one cannot be read."""

import logging
import os
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from torch.utils.data import Dataset

from ldm.data.batch import Sample
from ldm.data.transforms import UnreadableImage
from ldm.errors import MissingFile, UserError
from ldm.rng import derive
from ldm.system.image_files import counted
from ldm.system.terminal import printable

log = logging.getLogger(__name__)
FEW = 10000  # names among which one that is like another is looked for; of more that takes long
Split = Literal["all", "train", "validation"]


class Reading(Dataset[Sample], ABC):
    """Samples from files. One that cannot be read is replaced by the next, which carries its name and the reason.

    Attributes:
        what: the set, as messages name it.
        broken: entries that were found wrong while the set was opened, each "file:line: reason"; they are left out.
        others: files of the folder that the set does not read, by suffix.
        class_names: names of the classes below "label", "boxes" and "segmentation", where they are known.
    """

    what: str = "data"
    broken: list[str]
    others: Counter[str] = Counter()
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

    def kinds(self) -> Sequence[str | int]:
        """For each sample the class or folder that it belongs to: see `ldm.data.order.spread`; empty: one for all."""
        return ()

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
                skipped.append(printable(f"{self.where(current)}: {error}"))
        raise UserError(f"{self.what}: none of its {len(self)} images can be read; the first: {skipped[0]}")

    def report_found(self, left: int, total: int, chosen: str = "") -> None:
        """Say how many pictures there are, how many entries were left out, and which files are none.

        Args:
            left, total: entries that can be used, and all.
            chosen: what is said of those that can.

        Raises:
            UserError: nothing is left.
        """
        self.broken[:] = map(printable, self.broken)
        others = f" (also there: {counted(self.others)})" if self.others else ""
        if left == 0:
            first = f"; the first: {self.broken[0]}" if self.broken else ""
            raise UserError(f"{self.what}: none of its {total} entries can be used{first}{others}")
        log.info("%s: %s", printable(self.what), f"{left} {'picture' if left == 1 else 'pictures'}{chosen}{others}")
        if self.broken:
            log.warning(
                "%s: %d entries are left out, %d remain; the first: %s", printable(self.what), len(self.broken), left, self.broken[0]
            )


def in_split(split: Split, total: int) -> str:
    """What is said of the pictures of a split."""
    return "" if split == "all" else f", the split {split!r} of {total}"


def no_words(captions: Iterable[Sequence[str]]) -> str:
    """What is said of pictures whose captions are empty."""
    count = sum(not all(map(str.strip, one)) for one in captions)
    return f", {count} with an empty caption" if count else ""


def require(path: Path, what: str) -> Path:
    """The path, which must be there.

    Raises:
        MissingFile: it is not.
    """
    if not path.exists():
        raise MissingFile(f"{what} {str(path)!r}: not there{beside(path)}; put it there or set its path")
    return path


def first_of(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of several places that is there.

    Raises:
        MissingFile: none is; names all.
    """
    for name in names:
        if (root / name).exists():
            return root / name
    there = next(filter(None, (beside(root / name) for name in names)), "")
    raise MissingFile(f"{what}: no {' and no '.join(names)} in {str(root)!r}{there}; put it there or set the path")


def near(name: str, names: Iterable[str]) -> str:
    """ " (photos is there)": what a name that is not there was perhaps meant to be; nothing where nothing is like it."""
    there = {plainly(one): one for one in names}
    few = there if len(there) <= FEW else ()
    hit = there.get(plainly(name)) or next((there[one] for one in get_close_matches(plainly(name), few, 1, 0.75)), None)
    return f" ({printable(hit)} is there)" if hit else ""


def beside(path: Path) -> str:
    """As `near`, of what lies in the folder of a path that is not there."""
    try:
        return near(path.name, os.listdir(path.parent))
    except OSError:
        return ""


def plainly(name: str, capitals: bool = False) -> str:
    """A name without what does not show and may differ between systems: how accents are written, and capitals, unless they count."""
    composed = unicodedata.normalize("NFC", name)
    return composed if capitals else composed.casefold()


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
            broken.append(f"{printable(str(root / prefix))}: cannot be read ({error.strerror})")
            continue
        for entry in entries:
            name = prefix + entry.name
            if entry.name[0] == ".":
                continue
            if _is_folder(entry):
                passed = (*links, Path(entry.path).parent.resolve()) if entry.is_symlink() else links
                waiting += [] if entry.is_symlink() and _leads_back(entry, passed) else [(name + "/", passed)]
            elif _is_file(entry) and (not suffixes or Path(name).suffix.lower() in suffixes):
                if is_text(name):
                    found.add(name)
                else:
                    broken.append(f"{root}/{printable(name)}: a name that is not UTF-8")
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file, or a link to one or to nothing; what is neither (a pipe, a device) might be read for ever."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:  # a link to itself
        return True


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
    """A text file: see `decoded`.

    Raises:
        UserError: no such text.
    """
    try:
        return decoded(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: {error}: save it as UTF-8") from error


def decoded(data: bytes) -> str:
    """UTF-8, or UTF-16 where it begins with the mark that says so, with "\\n" at the ends of lines.

    Raises:
        ValueError: anything else.
    """
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text ({error})") from error
    if "\0" in text:
        raise ValueError("not UTF-8 text (it has zeros, as UTF-16 without its mark has)")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
