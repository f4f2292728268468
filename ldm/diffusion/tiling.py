"""Overlapping tiles: a map larger than memory allows, computed piece by piece and blended without seams (Sec. 4.3.2)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ldm.ranges import integer


@dataclass(frozen=True)
class Tiles:
    """How a latent is cut into overlapping tiles.

    The outermost cells of a tile next to other tiles (a quarter of the overlap) are context only: the network's output there depends
    on its padding. Further in, the weight rises along half a cosine and is 1 beyond the overlap. For a function whose receptive field
    is no larger than that quarter, the result is the same as without tiles.

    Attributes:
        size: side of a tile in latent cells; a shorter side of the latent is not cut.
        overlap: minimum overlap of neighbouring tiles, in cells.
        batch: tiles per call; the result does not depend on it (except for rounding).
        multiple: tiles start at multiples of this (the network's factor, so that its grid stays aligned).
        told: called with the number of finished tiles and the total, for progress bars.

    Raises:
        ValueError: sizes that are not multiples of `multiple`, an overlap not smaller than the tile, or a batch below 1.
    """

    size: int
    overlap: int
    batch: int = 1
    multiple: int = 1
    told: Callable[[int, int], None] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        integer(**{"size of tiles": self.size, "multiple": self.multiple})
        integer(0, overlap=self.overlap)
        if self.size % self.multiple or self.overlap % self.multiple:
            raise ValueError(f"tiles of {self.size} with an overlap of {self.overlap}: both must be multiples of {self.multiple}")
        if self.overlap >= self.size:
            raise ValueError(f"the overlap of {self.overlap} must be smaller than the tile of {self.size}")
        integer(**{"tiles at a time": self.batch})

    def starts(self, length: int) -> list[int]:
        """Start of each tile along a side of `length` cells; the last tile ends where the side ends."""
        if length <= self.size:
            return [0]
        step = self.size - self.overlap
        return [*range(0, length - self.size, step), length - self.size]

    def apply(self, function: Callable[[Tensor, Tensor], Tensor], x: Tensor, enlarge: int = 1, reduce: int = 1) -> Tensor:
        """Apply a function to the tiles of a map and blend the results.

        Differentiable with the memory of a few tiles: each is recomputed in the backward pass.

        Args:
            function: `(crops (n, C, reduce * s, reduce * s), rows (n,)) -> (n, C', enlarge * s, enlarge * s)`, where rows
                are the indices of the crops' samples in the batch.
            x: `(B, C, reduce * h, reduce * w)`.
            enlarge: output cells per cell and side (f for a decoder).
            reduce: input cells per cell and side (f for an encoder).

        Returns:
            `(B, C', enlarge * h, enlarge * w)`.
        """
        height, width = (side // reduce for side in x.shape[2:])
        h, w = min(self.size, height), min(self.size, width)
        jobs = [(row, top, left) for top in self.starts(height) for left in self.starts(width) for row in range(len(x))]
        total, weights = None, x.new_zeros(len(x), 1, enlarge * height, enlarge * width, dtype=torch.float32)
        for first in range(0, len(jobs), self.batch):
            some = jobs[first : first + self.batch]
            spots = [(row, reduce * top, reduce * left) for row, top, left in some]
            crops = torch.stack([x[row, :, top : top + reduce * h, left : left + reduce * w] for row, top, left in spots])
            rows = torch.tensor([row for row, _, _ in some], device=x.device)
            pieces = checkpoint(function, crops, rows, use_reentrant=False, preserve_rng_state=False).float()
            if total is None:
                total = pieces.new_zeros(len(x), pieces.shape[1], enlarge * height, enlarge * width)
            for (row, top, left), piece in zip(some, pieces, strict=True):
                weight = self.weight(top, h, height, enlarge)[:, None] * self.weight(left, w, width, enlarge)
                weight = weight.to(x.device)
                place = (slice(enlarge * top, enlarge * (top + h)), slice(enlarge * left, enlarge * (left + w)))
                total[row, :, *place] += weight * piece
                weights[row, :, *place] += weight
            if self.told is not None:
                self.told(first + len(some), len(jobs))
        assert total is not None
        return total / weights

    def weight(self, start: int, size: int, length: int, enlarge: int = 1) -> Tensor:
        """Weight along one side of a tile, `(enlarge * size,)`: 1, except towards neighbouring tiles."""
        overlap = enlarge * self.overlap
        unseen = overlap // 4
        distance = torch.arange(enlarge * size) + 0.5 - unseen
        rise = 0.5 - 0.5 * torch.cos(math.pi * (distance / max(1, overlap - 2 * unseen)).clamp(0, 1))
        weight = torch.ones(enlarge * size)
        if start > 0:
            weight = weight * rise
        if start + size < length:
            weight = weight * rise.flip(0)
        return weight
