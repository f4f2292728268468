"""Counter-based randomness: every random number is a function of named keys, never of earlier draws.

Training draws data order, noise, times, dropped conditions and augmentation from (seed, purpose, step, sample); sampling uses
the generator (seed, i) for image i. A run that is resumed, or split over other devices or batches, therefore uses the same
random numbers. All numbers are drawn on the CPU, because generators differ between devices.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def derive(*keys: int | str) -> int:
    """A 63-bit seed from any keys; the same on every machine and Python version."""
    digest = hashlib.blake2b("\x1f".join(map(str, keys)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*keys: int | str) -> torch.Generator:
    """A fresh CPU generator for these keys."""
    return torch.Generator().manual_seed(derive(*keys))


def as_numpy(source: torch.Generator) -> np.random.Generator:
    """A NumPy generator seeded by one draw of `source`."""
    return np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=source)))


def normal(shape: Sequence[int], generators: Sequence[torch.Generator], like: Tensor | None = None) -> Tensor:
    """Standard normal numbers, one generator per sample.

    Args:
        shape: shape of one sample, `(C, h, w)`.
        generators: one per sample, B in total; each advances by one draw.
        like: tensor whose device and dtype to use; float32 on the CPU if None.

    Returns:
        `(B, C, h, w)`.
    """
    drawn = torch.empty(len(generators), *shape)
    for row, source in zip(drawn, generators, strict=True):
        row.normal_(generator=source)
    return drawn if like is None else drawn.to(like.device, like.dtype, non_blocking=True)


class StepRNG:
    """The random numbers of one training step: one independent stream per sample and purpose.

    Args:
        seed: seed of the run.
        step: training step (batches of the global size).
        ids: stable name of each sample in this (micro-)batch.
    """

    def __init__(self, seed: int, step: int, ids: Sequence[str]) -> None:
        self.seed, self.step, self.ids = seed, step, list(ids)

    def _generators(self, purpose: str) -> list[torch.Generator]:
        return [generator(self.seed, purpose, self.step, name) for name in self.ids]

    def normal(self, purpose: str, like: Tensor) -> Tensor:
        """Noise of the shape, device and dtype of `like` `(B, ...)`."""
        return normal(like.shape[1:], self._generators(purpose), like)

    def integers(self, purpose: str, high: int, device: torch.device) -> Tensor:
        """`(B,)` int64, uniform in [0, high)."""
        drawn = [torch.randint(high, (), generator=g) for g in self._generators(purpose)]
        return torch.stack(drawn).to(device)

    def uniform(self, purpose: str) -> Tensor:
        """`(B,)` float64 on the CPU, uniform in [0, 1)."""
        return torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in self._generators(purpose)])

    def chance(self, purpose: str, probability: float) -> Tensor:
        """`(B,)` bool on the CPU, true with the given probability."""
        drawn = [torch.rand((), generator=g) for g in self._generators(purpose)]
        return torch.stack(drawn) < probability
