"""Scikit-learn's 1797 scans of handwritten digits: real images that come with a package."""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ldm.data.batch import Sample
from ldm.ranges import integer
from ldm.rng import derive

HELD_OUT = 360  # of 1797


def load_digits(split: Literal["train", "validation"], size: int) -> tuple[Tensor, Tensor, list[int]]:
    """Images `(N, 1, size, size)` in [-1, 1], labels `(N,)` and their numbers in scikit-learn's order.

    The scans are 8x8 with values 0 to 16; larger sizes are upsampled bicubically.
    """
    from sklearn.datasets import load_digits as load

    bunch = load()
    order = np.random.default_rng(derive("digits split")).permutation(len(bunch.target))
    chosen = np.sort(order[HELD_OUT:] if split == "train" else order[:HELD_OUT])
    images = torch.from_numpy(bunch.images[chosen]).float()[:, None] / 8 - 1
    if size != 8:
        images = F.interpolate(images, size=(size, size), mode="bicubic", align_corners=False).clamp(-1, 1)
    return images, torch.from_numpy(bunch.target[chosen]).long(), chosen.tolist()


class Digits(Dataset[Sample]):
    """Digits with their labels 0 to 9, one channel.

    Args:
        split: "train" (1437 images) or "validation" (360); the split is fixed.
        size: side of the square image, in pixels.
    """

    def __init__(self, split: Literal["train", "validation"] = "train", size: int = 32) -> None:
        integer(size=size)
        self.images, self.labels, self.numbers = load_digits(split, size)

    def __len__(self) -> int:
        return len(self.images)

    def kinds(self) -> list[int]:
        """Their labels: see `ldm.data.order.spread`."""
        return self.labels.tolist()

    def __getitem__(self, index: int) -> Sample:
        return {"image": self.images[index], "label": int(self.labels[index]), "id": f"digit-{self.numbers[index]}"}
