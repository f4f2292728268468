"""Base of data sets of files: listing, held-out files, and handling of unreadable ones."""

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
FEW = 10000  # maximum number of names among which similar ones are searched, which is slow
Split = Literal["all", "train", "validation"]


class Reading(Dataset[Sample], ABC):
    """Samples from files. An unreadable one is replaced by the next, which records its name and the reason.

    Attributes:
        what: description of the set, for messages.
        broken: invalid entries, each "file:line: reason", which are skipped.
        others: number of other files in the folder by suffix.
        class_names: names of classes by key ("label", "boxes", "segmentation"), if known.
    """

    what: str = "data"
    broken: list[str]
    others: Counter[str] = Counter()
    class_names: dict[str, list[str]]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int, seed: int, place: int) -> Sample:
        """Sample `index` with the crop and flip of a position in the run's order.

        Raises:
            UnreadableImage: says why not.
        """

    @abstractmethod
    def where(self, index: int) -> str:
        """The file of a sample, for messages."""

    def original_size(self, index: int) -> tuple[int, int] | None:
        """Width and height of the stored image, if known without reading it."""
        return None

    def kinds(self) -> Sequence[str | int]:
        """Class or folder of each sample, see `ldm.data.order.spread`; empty if all have the same."""
        return ()

    def __getitem__(self, index: int) -> Sample:
        return self.varied(index, 0, 0)

    def varied(self, index: int, seed: int, place: int) -> Sample:
        """Sample `index`, or the next readable one, at a position in the run's order.

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
        """Log the number of images, skipped entries and other files.

        Args:
            left, total: number of valid entries, and of all.
            chosen: remark on the valid ones.

        Raises:
            UserError: no entry is valid.
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
    """Remark on the images of a split."""
    return "" if split == "all" else f", the split {split!r} of {total}"


def no_words(captions: Iterable[Sequence[str]]) -> str:
    """Remark on images with empty captions."""
    count = sum(not all(map(str.strip, one)) for one in captions)
    return f", {count} with an empty caption" if count else ""


def require(path: Path, what: str) -> Path:
    """Check that a path exists.

    Raises:
        MissingFile: it does not.
    """
    if not path.exists():
        raise MissingFile(f"{what} {str(path)!r}: does not exist{beside(path)}; put it there or set its path")
    return path


def first_of(root: Path, names: Sequence[str], what: str) -> Path:
    """The first existing path of several.

    Raises:
        MissingFile: none exists; the message names all.
    """
    for name in names:
        if (root / name).exists():
            return root / name
    there = next(filter(None, (beside(root / name) for name in names)), "")
    raise MissingFile(f"{what}: no {' and no '.join(names)} in {str(root)!r}{there}; put it there or set the path")


def near(name: str, names: Iterable[str]) -> str:
    """ " (photos exists)": a similar existing name for a missing one; "" if there is none."""
    there = {plainly(one): one for one in names}
    few = there if len(there) <= FEW else ()
    hit = there.get(plainly(name)) or next((there[one] for one in get_close_matches(plainly(name), few, 1, 0.75)), None)
    return f" ({printable(hit)} exists)" if hit else ""


def beside(path: Path) -> str:
    """As `near`, for the folder of a missing path."""
    try:
        return near(path.name, os.listdir(path.parent))
    except OSError:
        return ""


def plainly(name: str, capitals: bool = False) -> str:
    """A name with normalised Unicode and, unless `capitals`, in lower case."""
    composed = unicodedata.normalize("NFC", name)
    return composed if capitals else composed.casefold()


def files_below(root: Path, suffixes: Collection[str], broken: list[str]) -> set[str]:
    """Relative names (with forward slashes) of the files below a folder.

    Links are followed, except those that lead back to a parent folder. Hidden files and folders (`.ipynb_checkpoints`, `._a.jpg`) are
    skipped.

    Args:
        suffixes: in lower case, with dots; empty for all files.
        broken: list to which unreadable folders and names that are not UTF-8 are added.
    """
    found: set[str] = set()
    waiting: list[tuple[str, tuple[Path, ...]]] = [("", ())]  # a folder, and the resolved folders of the links that lead to it
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
    """Whether an entry is a file or a link to one or to nothing; reading others (a pipe, a device) might not end."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:  # a link to itself
        return True


def _leads_back(entry: os.DirEntry[str], passed: Sequence[Path]) -> bool:
    """Whether a link leads to a folder that contains one of these folders."""
    target = Path(entry.path).resolve()
    return any(folder.is_relative_to(target) for folder in passed)


def is_text(name: str) -> bool:
    """Whether a name is valid UTF-8; file names need not be."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def held_out_names(names: Sequence[str], share: float) -> set[str]:
    """Names of the held-out files, by a hash of each name, so that new files do not change the split; at least one."""
    held = {name for name in names if derive("held out", name) % 10**6 < share * 10**6}
    return held or {min(names, key=lambda name: derive("held out", name))}


def of_split(names: Sequence[str], split: Split, share: float) -> list[str]:
    """The names that belong to a split, in their order."""
    if split == "all":
        return list(names)
    held = held_out_names(names, share)
    return [name for name in names if (split == "validation") == (name in held)]


def listed(path: Path) -> list[tuple[int, str]]:
    """Non-empty lines of a list file with their numbers.

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
    """Decode UTF-8, or UTF-16 with a byte order mark, with "\\n" as line break.

    Raises:
        ValueError: anything else.
    """
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text ({error})") from error
    if "\0" in text:
        raise ValueError("not UTF-8 text (it has zeros, like UTF-16 without a byte order mark)")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
