"""Base of data sets of files: train and validation split, and replacement of unreadable files."""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from torch.utils.data import Dataset

from ldm.data.batch import Sample
from ldm.data.transforms import UnreadableImage
from ldm.errors import UserError
from ldm.rng import derive
from ldm.system.image_files import counted
from ldm.system.terminal import printable

log = logging.getLogger(__name__)
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
        """Width and height of the stored image; None if it cannot be read."""
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

    def in_split(self, names: Iterable[str], split: Split, share: float) -> np.ndarray:
        """Positions of the files of a split: see `held_out`.

        Raises:
            UserError: there are files, but none of the split.
        """
        if split == "all":
            return np.arange(sum(1 for _ in names))
        held = held_out(names, share)
        positions = np.flatnonzero(held == (split == "validation"))
        if len(held) and not len(positions):
            raise UserError(f"{self.what}: none of its {len(held)} images is in the split {split!r}")
        return positions

    def report_found(self, valid: int, total: int, split: Split = "all", images: int = 0, captions: Iterable[Sequence[str]] = ()) -> None:
        """Log the number of images, skipped entries and other files.

        Args:
            valid, total: number of valid entries, and of all.
            split, images: the split, and the number of images that was split.
            captions: captions of the valid entries; empty ones are counted.

        Raises:
            UserError: no entry is valid.
        """
        self.broken[:] = map(printable, self.broken)
        others = f" (also there: {counted(self.others)})" if self.others else ""
        if valid == 0:
            first = f"; the first: {self.broken[0]}" if self.broken else ""
            raise UserError(f"{self.what}: none of its {total} entries can be used{first}{others}")
        found = f"{valid} {'picture' if valid == 1 else 'pictures'}"
        if split != "all":
            found += f", the split {split!r} of {images}"
        if empty := sum(not all(map(str.strip, one)) for one in captions):
            found += f", {empty} with an empty caption"
        log.info("%s: %s", printable(self.what), found + others)
        if self.broken:
            log.warning(
                "%s: %d entries are left out, %d remain; the first: %s", printable(self.what), len(self.broken), valid, self.broken[0]
            )


def held_out(names: Iterable[str], share: float) -> np.ndarray:
    """Whether each file is held out, `(n,)` bool: by a hash of its name, so that new files do not change the split; at least one is."""
    hashes = np.fromiter((derive("held out", name) for name in names), np.int64)
    held = hashes % 10**6 < share * 10**6
    return held if held.any() else hashes == hashes.min(initial=2**63 - 1)
