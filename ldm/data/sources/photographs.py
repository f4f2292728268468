"""Patches of the photographs that are part of scikit-learn and scikit-image."""

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any, Literal

import numpy as np
from torch.utils.data import Dataset

from ldm.data.batch import Sample
from ldm.data.images import to_tensor
from ldm.data.resize import resize
from ldm.errors import MissingFile
from ldm.ranges import integer
from ldm.rng import derive

Part = Literal["train", "validation"]
CELL = 64  # pixels: the photographs are cut into cells, and every fourth is held out
REDUCED = 2  # half size, so that a small patch has more than one texture, and JPEG artefacts disappear


@cache
def photographs() -> dict[str, np.ndarray]:
    """The photographs at half size: name -> `(H, W, 3)` uint8.

    Raises:
        MissingFile: scikit-image is not installed.
    """
    small = {}
    for name, pixels in originals():
        height, width = (side // REDUCED for side in pixels.shape[:2])
        small[name] = np.round(resize(pixels.astype(np.float32), (height, width), "area")).astype(np.uint8)
    return small


def originals() -> Iterator[tuple[str, np.ndarray]]:
    """Seven colour photographs, `(H, W, 3)` uint8, by name."""
    from sklearn.datasets import load_sample_image

    try:
        from skimage import data
    except ImportError as error:
        raise MissingFile("Photographs: scikit-image is not installed: pip install scikit-image") from error
    for name in ("china", "flower"):
        yield name, load_sample_image(f"{name}.jpg")
    shipped: Any = data
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        yield name, getattr(shipped, name)()
    yield "motorcycle", shipped.stereo_motorcycle()[0]


def held_out(row: int, column: int) -> bool:
    """Whether a cell belongs to the validation split: one in each row of four, shifted from row to row."""
    return (2 * row + column) % 4 == 1


class Photographs(Dataset[Sample]):
    """Square patches of the photographs. Three quarters of their area are for training; the held-out part shares no pixel with them.

    Training patches are at random positions outside the held-out cells, half of them flipped: patch i is a function of (seed, i).
    Validation patches fill the held-out cells without overlap.

    Args:
        split: "train" or "validation".
        size: side of a patch in pixels, at most 64.
        length: number of training patches; no effect on validation patches.
        seed: seed of the training patches.

    Raises:
        MissingFile: scikit-image is not installed.
        ValueError: a size below 1 or above 64.
    """

    def __init__(self, split: Part = "train", size: int = 32, length: int = 20000, seed: int = 0) -> None:
        integer(size=size, length=length)
        integer(0, seed=seed)
        if not 1 <= size <= CELL:
            raise ValueError(f"Photographs: size {size}: expected 1 to {CELL}")
        self.split, self.size, self.seed = split, size, seed
        self.names, self.pixels = list(photographs()), list(photographs().values())
        self.places = [place for k in range(len(self.names)) for place in self._fixed(k)] if split == "validation" else None
        self.length = length if self.places is None else len(self.places)

    def _fixed(self, k: int) -> Iterator[tuple[int, int, int]]:
        """Which photograph, top and left of its validation patches."""
        height, width = self.pixels[k].shape[:2]
        for row, column in product(range(height // CELL), range(width // CELL)):
            if held_out(row, column):
                for y, x in product(range(0, CELL - self.size + 1, self.size), repeat=2):
                    yield k, row * CELL + y, column * CELL + x

    def _free(self, top: int, left: int) -> bool:
        """Whether a patch touches no held-out cell."""
        rows, columns = (range(first // CELL, (first + self.size - 1) // CELL + 1) for first in (top, left))
        return not any(held_out(row, column) for row, column in product(rows, columns))

    def __len__(self) -> int:
        return self.length

    def place(self, index: int) -> tuple[int, int, int, bool]:
        """Which photograph, top, left, and whether the patch is mirrored."""
        if self.places is not None:
            return (*self.places[index], False)
        rng = np.random.default_rng(derive("photographs", self.seed, index))
        while True:
            k = int(rng.integers(len(self.pixels)))
            height, width = self.pixels[k].shape[:2]
            top, left = int(rng.integers(height - self.size + 1)), int(rng.integers(width - self.size + 1))
            if self._free(top, left):
                return k, top, left, bool(rng.random() < 0.5)

    def __getitem__(self, index: int) -> Sample:
        k, top, left, mirrored = self.place(index)
        patch = self.pixels[k][top : top + self.size, left : left + self.size]
        image = to_tensor(np.ascontiguousarray(patch[:, ::-1] if mirrored else patch))
        return {"image": image, "id": f"{self.names[k]}-{self.split}-{top}-{left}" + ("-mirrored" if mirrored else "")}
