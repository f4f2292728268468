"""One pass over a set of images: is each whole, are all of one size, and what is the fingerprint of the set?"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from ldm.data.loader import Loader
from ldm.errors import UserError
from ldm.evaluation.images import DataOfConfig, EvaluationSet


class Pixels(Dataset[Any]):
    """The images of a set by their numbers in it."""

    def __init__(self, images: EvaluationSet, numbers: Sequence[int]) -> None:
        self.images, self.numbers = images, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> np.ndarray | str:
        return self.images[self.numbers[index]]


def loaded(images: EvaluationSet, numbers: Sequence[int], batch: int, workers: int) -> Loader:
    """Lists of images, in the order of `numbers`."""
    return Loader(Pixels(images, numbers), batch_size=batch, num_workers=workers, collate_fn=list)


def stacked(arrays: Sequence[np.ndarray]) -> Tensor:
    """Images `(H, W, 3)` -> `(B, 3, H, W)` uint8."""
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Scan:
    """A set that has been looked through.

    Attributes:
        images: the set.
        kept: numbers of the images that count.
        digests: `(N, 32)` uint8, SHA-256 over the size and pixels of each of them.
        size: width and height of all of them.
        left_out: why others do not count.
    """

    images: EvaluationSet
    kept: list[int]
    digests: Tensor
    size: tuple[int, int]
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def names(self) -> list[str]:
        return [self.images.names[i] for i in self.kept]

    @property
    def settings(self) -> list[dict[str, Any] | None]:
        return [self.images.settings[i] for i in self.kept]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted digests: the same for the same pixels, whatever their order, names and container."""
        rows = sorted(row.tobytes() for row in self.digests.numpy())
        return hashlib.sha256(b"".join(rows)).hexdigest()

    @property
    def repeated(self) -> int:
        """How many images are a copy of another one."""
        return len(self) - len(torch.unique(self.digests, dim=0))

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """Some of the images by their place among those that count, `(B, 3, H, W)` uint8."""
        return stacked([self.images[self.kept[i]] for i in numbers])  # type: ignore[misc]


def scan(images: EvaluationSet, workers: int = 0, limit: int | None = None) -> Scan:
    """Read a set once.

    Args:
        images: the set.
        workers: processes that read.
        limit: look at the first so many only.

    Raises:
        UserError: a file that cannot be read (only data sets of a config may skip some), or images of several sizes.
    """
    numbers = range(len(images))[:limit]
    kept: list[int] = []
    digests: list[np.ndarray] = []
    left_out: list[str] = []
    sizes: dict[tuple[int, int], str] = {}
    order = iter(numbers)
    with tqdm(total=len(numbers), desc=f"reading {images.what}", unit="image", disable=None, leave=False) as bar:
        for arrays in loaded(images, numbers, 64, workers):
            bar.update(len(arrays))
            for array in arrays:
                number = next(order)
                if isinstance(array, str):
                    if not isinstance(images, DataOfConfig):
                        raise UserError(array)
                    left_out.append(array)
                    continue
                sizes.setdefault((array.shape[1], array.shape[0]), images.names[number])
                kept.append(number)
                digests.append(np.frombuffer(hashlib.sha256(str(array.shape).encode() + array.tobytes()).digest(), dtype=np.uint8))
    if not kept:
        raise UserError(f"{images.what}: none of its {len(numbers)} images can be read; the first: {left_out[0]}")
    if len(sizes) > 1:
        (a, first), (b, second) = list(sizes.items())[:2]
        raise UserError(f"{images.what}: {first} is {a[0]}x{a[1]}, {second} is {b[0]}x{b[1]}; measures need images of one size")
    return Scan(images, kept, torch.from_numpy(np.stack(digests)), next(iter(sizes)), tuple(left_out))
