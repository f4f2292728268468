"""Paths between data and noise that have a velocity: rectified flow, the trigonometric path, and the continuous VP process."""

import math

import torch
from torch import Tensor

from ldm.diffusion.process.base import ContinuousProcess, Level
from ldm.diffusion.process.times import TimeDistribution
from ldm.ranges import positive


class RectifiedFlow(ContinuousProcess):
    """alpha = 1 - t, sigma = t: straight lines from data to noise (Liu et al., 2023; Lipman et al., 2023). Arguments as in the base."""

    def path(self, t: Tensor) -> Level:
        one = torch.ones_like(t)
        return Level(1.0 - t, t, -one, one)


class Trigonometric(ContinuousProcess):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2): variance is preserved (GVP; Albergo et al., 2023). Arguments as in the base."""

    def path(self, t: Tensor) -> Level:
        # cos(pi / 2) is not 0 in floating point; the sine of its complement is.
        alpha, sigma = torch.sin((1.0 - t) * math.pi / 2), torch.sin(t * math.pi / 2)
        return Level(alpha, sigma, -math.pi / 2 * sigma, math.pi / 2 * alpha)


class VariancePreserving(ContinuousProcess):
    """The VP process in continuous time (Song et al., 2021, App. C): beta grows linearly from `beta_min` to `beta_max`.

    Args:
        beta_min, beta_max: of the forward SDE.
        times, shift, time_scale, time_reversed: as in the base.
    """

    def __init__(
        self,
        beta_min: float = 0.1,
        beta_max: float = 20.0,
        times: TimeDistribution | None = None,
        shift: float = 1.0,
        time_scale: float = 1000.0,
        time_reversed: bool = False,
    ) -> None:
        super().__init__(times=times, shift=shift, time_scale=time_scale, time_reversed=time_reversed)
        positive(beta_min=beta_min, beta_max=beta_max)
        self.beta_min, self.beta_max = beta_min, beta_max

    def path(self, t: Tensor) -> Level:
        slope = self.beta_max - self.beta_min
        log_alpha = -0.25 * t**2 * slope - 0.5 * t * self.beta_min
        d_log_alpha = -0.5 * t * slope - 0.5 * self.beta_min
        alpha, sigma = torch.exp(log_alpha), torch.sqrt(-torch.expm1(2.0 * log_alpha))
        return Level(alpha, sigma, d_log_alpha * alpha, -d_log_alpha * alpha**2 / sigma)
