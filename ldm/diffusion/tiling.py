"""Overlapping windows: a map larger than memory allows, computed piece by piece and blended without seams (Sec. 4.3.2)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ldm.ranges import integer


@dataclass(frozen=True)
class Tiles:
    """How a latent is cut.

    A window's outermost cells next to other windows (a quarter of the overlap) are context only: what a network says there
    depends on its padding. Further in, its weight rises along half a cosine and is 1 beyond the overlap. Any function whose
    answer at a cell depends on no more than that quarter around it gives what it gives without windows.

    Attributes:
        size: side of a window in latent cells; a shorter side of the latent is taken whole.
        overlap: of neighbours, in cells, at least.
        batch: windows at a time; the result does not depend on it (but for how kernels round).
        multiple: windows begin at multiples of this (the network's factor, so that its grid stays where it was).
        told: called with how many windows are done, and of how many, for progress bars.

    Raises:
        ValueError: sizes that are no multiples, an overlap that is not smaller than the window, or a batch below 1.
    """

    size: int
    overlap: int
    batch: int = 1
    multiple: int = 1
    told: Callable[[int, int], None] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        integer(**{"size of windows": self.size, "multiple": self.multiple})
        integer(0, overlap=self.overlap)
        if self.size % self.multiple or self.overlap % self.multiple:
            raise ValueError(f"windows of {self.size} with an overlap of {self.overlap}: both must be multiples of {self.multiple}")
        if self.overlap >= self.size:
            raise ValueError(f"the overlap of {self.overlap} must be smaller than the window of {self.size}")
        integer(**{"windows at a time": self.batch})

    def starts(self, length: int) -> list[int]:
        """Where windows begin along a side of `length` cells: the last one ends where the side ends."""
        if length <= self.size:
            return [0]
        step = self.size - self.overlap
        return [*range(0, length - self.size, step), length - self.size]

    def apply(self, function: Callable[[Tensor, Tensor], Tensor], x: Tensor, enlarge: int = 1, reduce: int = 1) -> Tensor:
        """Run a function over windows of a map and blend what it gives.

        Differentiable, in the memory of a few windows too: on the way back each is computed once more.

        Args:
            function: `(crops (n, C, reduce * s, reduce * s), rows (n,)) -> (n, C', enlarge * s, enlarge * s)`, row being the
                place of a crop's sample in the batch.
            x: `(B, C, reduce * h, reduce * w)`.
            enlarge: cells that the function gives per cell and side (f for a decoder).
            reduce: cells that it takes per cell and side (f for an encoder).

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
        """Weight along one side of a window, `(enlarge * size,)`: 1 but towards edges that are not edges of the map."""
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
