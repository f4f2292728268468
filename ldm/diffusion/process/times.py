"""Distributions of times in training, as maps from uniform random numbers to times: one random number gives one time."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ldm.ranges import number, positive

EDGE = 1e-7  # uniform numbers are clamped this far from 0 and 1, where the normal quantile is infinite


class TimeDistribution(ABC):
    """A distribution of times, given by its quantile function."""

    @abstractmethod
    def __call__(self, u: Tensor) -> Tensor:
        """Uniform numbers `(B,)` in [0, 1) -> times `(B,)`, float64."""


def standard_normal(u: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) -> standard normal ones."""
    return torch.special.ndtri(u.double().clamp(EDGE, 1.0 - EDGE))


class Uniform(TimeDistribution):
    """Uniform on [low, high)."""

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        number(low=low, high=high)
        if not low < high:
            raise ValueError(f"low must be less than high, got low={low}, high={high}")
        self.low, self.high = low, high

    def __call__(self, u: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * u.double()


class LogitNormal(TimeDistribution):
    """log(t / (1 - t)) is normal: times in (0, 1), concentrated in the middle (Esser et al., 2024, Eq. 19).

    Args:
        mean: positive values shift times towards noise.
        std: of the normal distribution.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        number(mean=mean)
        positive(std=std)
        self.mean, self.std = mean, std

    def __call__(self, u: Tensor) -> Tensor:
        return torch.sigmoid(self.mean + self.std * standard_normal(u))


class LogNormal(TimeDistribution):
    """log(t) is normal: for processes whose time is sigma (Karras et al., 2022, Table 1).

    Args:
        mean, std: of the normal distribution; -1.2 and 1.2 in EDM, -0.4 and 1.0 in EDM2 on latents.
    """

    def __init__(self, mean: float = -1.2, std: float = 1.2) -> None:
        number(mean=mean)
        positive(std=std)
        self.mean, self.std = mean, std

    def __call__(self, u: Tensor) -> Tensor:
        return torch.exp(self.mean + self.std * standard_normal(u))


class LogUniform(TimeDistribution):
    """log(t) is uniform between log(low) and log(high) (VE of Karras et al., 2022, Table 1)."""

    def __init__(self, low: float, high: float) -> None:
        positive(low=low, high=high)
        if not low < high:
            raise ValueError(f"low must be less than high, got low={low}, high={high}")
        self.low, self.high = low, high

    def __call__(self, u: Tensor) -> Tensor:
        return torch.exp(math.log(self.low) + math.log(self.high / self.low) * u.double())


class Shifted(TimeDistribution):
    """Times in (0, 1) shifted towards noise, for large images: t -> k t / (1 + (k - 1) t) (Esser et al., 2024, Eq. 23).

    Args:
        times: the distribution to shift.
        shift: k; 1 changes nothing. The square root of the ratio of the numbers of latent pixels is a good starting point.
    """

    def __init__(self, times: TimeDistribution, shift: float) -> None:
        positive(shift=shift)
        self.times, self.shift = times, shift

    def __call__(self, u: Tensor) -> Tensor:
        t = self.times(u)
        return self.shift * t / (1.0 + (self.shift - 1.0) * t)
