"""z_t = z_0 + sigma eps, with sigma as time: EDM, which scales the network's input to unit variance, and the unscaled VE process."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ldm.diffusion.process.base import ContinuousProcess, Level, Spacing
from ldm.diffusion.process.times import LogNormal, LogUniform, TimeDistribution
from ldm.ranges import positive


class EDM(ContinuousProcess):
    """alpha = 1, sigma = t (Karras et al., 2022, Table 1, "Ours"); goes with `parameterization: edm`.

    Args:
        sigma_data: standard deviation of latents.
        sigma_min, sigma_max: of sampling; the last step goes from `sigma_min` to 0.
        rho: larger values put more steps near clean data.
        times: distribution of sigma in training; log-normal with the paper's parameters if None.
    """

    beyond_first = True
    sigma_data: float

    def __init__(
        self,
        sigma_data: float = 0.5,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        times: TimeDistribution | None = None,
    ) -> None:
        positive(sigma_data=sigma_data, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
        if not sigma_min < sigma_max:
            raise ValueError(f"sigma_min must be less than sigma_max, got {sigma_min} and {sigma_max}")
        self.first = float(sigma_max)
        super().__init__(times if times is not None else LogNormal())
        self.sigma_data, self.sigma_min, self.rho = sigma_data, sigma_min, rho

    def path(self, t: Tensor) -> Level:
        one = torch.ones_like(t)
        total = t**2 + self.sigma_data**2
        return Level(one, t, torch.zeros_like(t), one, self.sigma_data**2 / total, t * self.sigma_data / total.sqrt())

    def network_time(self, t: Tensor) -> Tensor:
        """c_noise = ln(sigma) / 4."""
        return t.log() / 4.0

    def scale_input(self, z_t: Tensor, t: Tensor) -> Tensor:
        """c_in z_t."""
        return z_t / (self.at(t, z_t).sigma ** 2 + self.sigma_data**2).sqrt()

    def begin(self, noise: Tensor) -> Tensor:
        return self.first * noise

    def spacings(self) -> Mapping[str, Spacing]:
        return {"uniform": self.karras, "karras": self.karras}

    def karras(self, steps: int) -> list[float]:
        """Evenly spaced in sigma^(1 / rho), then 0 (Karras et al., 2022, Eq. 5)."""
        high, low = self.first ** (1.0 / self.rho), self.sigma_min ** (1.0 / self.rho)
        return [*((high + i / max(steps - 1, 1) * (low - high)) ** self.rho for i in range(steps)), 0.0]

    def fraction(self, t: float) -> float:
        """Share of the sampling steps below t."""
        high, low = self.first ** (1.0 / self.rho), self.sigma_min ** (1.0 / self.rho)
        return min(max((t ** (1.0 / self.rho) - low) / (high - low), 0.0), 1.0)


class VarianceExploding(ContinuousProcess):
    """alpha = 1, sigma = t (Song et al., 2021; Karras et al., 2022, Table 1, "VE"): the network takes the unscaled z_t and predicts
    (z_0 - z_t) / sigma; goes with `parameterization: edm`.

    Args:
        sigma_min, sigma_max: of sampling and training; the last step goes from `sigma_min` to 0.
    """

    def __init__(self, sigma_min: float = 0.02, sigma_max: float = 100.0) -> None:
        times = LogUniform(sigma_min, sigma_max)
        self.first = float(sigma_max)
        super().__init__(times)
        self.sigma_min = sigma_min

    def path(self, t: Tensor) -> Level:
        one = torch.ones_like(t)
        return Level(one, t, torch.zeros_like(t), one, one, t)

    def network_time(self, t: Tensor) -> Tensor:
        """c_noise = ln(sigma / 2)."""
        return torch.log(t / 2.0)

    def begin(self, noise: Tensor) -> Tensor:
        return self.first * noise

    def uniform(self, steps: int) -> list[float]:
        """Evenly spaced in ln(sigma), then 0."""
        ratio = self.sigma_min / self.first
        return [*(self.first * ratio ** (i / max(steps - 1, 1)) for i in range(steps)), 0.0]

    def fraction(self, t: float) -> float:
        return min(max(1.0 - math.log(t / self.first) / math.log(self.sigma_min / self.first), 0.0), 1.0) if t > 0 else 0.0
