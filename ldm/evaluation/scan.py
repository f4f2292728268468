"""One pass over a set of images: whether each can be read, whether all have one size, and the fingerprint of the set."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset
from tqdm import tqdm

from ldm.data.loader import Loader
from ldm.errors import UserError
from ldm.evaluation.images import EvaluationSet


def loaded(images: EvaluationSet, numbers: Sequence[int], batch: int, workers: int) -> Loader:
    """Lists of images, in the order of `numbers`."""
    return Loader(Subset(images, numbers), batch_size=batch, num_workers=workers, collate_fn=list)


def stacked(arrays: Sequence[np.ndarray]) -> Tensor:
    """Images `(H, W, 3)` -> `(B, 3, H, W)` uint8."""
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Scan:
    """A set of images that has been read once.

    Attributes:
        images: the set.
        kept: numbers of the images that can be read.
        digests: `(N, 32)` uint8, SHA-256 over the size and pixels of each of them.
        size: width and height of all of them.
        left_out: why others cannot be read.
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
        """SHA-256 over the sorted digests: the same for the same pixels in any order, under any names and in any container."""
        rows = sorted(row.tobytes() for row in self.digests.numpy())
        return hashlib.sha256(b"".join(rows)).hexdigest()

    @property
    def repeated(self) -> int:
        """Number of images that are a copy of another one."""
        return len(self) - len(torch.unique(self.digests, dim=0))

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """Some of the images by their place among `kept`, `(B, 3, H, W)` uint8."""
        return stacked([self.images[self.kept[i]] for i in numbers])  # type: ignore[misc]


def scan(images: EvaluationSet, workers: int = 0, limit: int | None = None) -> Scan:
    """Read a set once.

    Args:
        images: the set.
        workers: processes that read.
        limit: read only this many images, from the first.

    Raises:
        UserError: an image that cannot be read in a set that skips none, or images of several sizes.
    """
    numbers = range(len(images))[:limit]
    kept: list[int] = []
    digests: list[np.ndarray] = []
    left_out: list[str] = []
    sizes: dict[tuple[int, int], str] = {}
    arrays = chain.from_iterable(loaded(images, numbers, 64, workers))
    with tqdm(arrays, total=len(numbers), desc=f"reading {images.what}", unit="image", disable=None, leave=False) as bar:
        for number, array in zip(numbers, bar, strict=True):
            if isinstance(array, str):
                if not images.skips:
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
