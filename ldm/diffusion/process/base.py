"""What a diffusion process is: z_t = alpha_t z_0 + sigma_t eps at a time t, for any alpha and sigma.

Time grows with noise everywhere in this project: clean data first, noise last. To add a process, derive from `Process` (discrete
timesteps) or `ContinuousProcess` (real times) and define alpha_t and sigma_t.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ldm.diffusion.process.times import TimeDistribution, Uniform
from ldm.ranges import positive
from ldm.rng import StepRNG

Spacing = Callable[[int], Sequence[float]]  # number of steps -> times of a sampler in decreasing order, the final time included


class Gaussian(NamedTuple):
    """A normal distribution with diagonal covariance."""

    mean: Tensor
    variance: Tensor


class Level(NamedTuple):
    """Coefficients of a process at times t `(B,)`; every entry is shaped to multiply latents `(B, C, h, w)`.

    Attributes:
        alpha, sigma: z_t = alpha z_0 + sigma eps.
        d_alpha, d_sigma: their derivatives in t; None for discrete timesteps.
        c_skip, c_out: the clean latent is c_skip z_t + c_out F for a network that predicts F (Karras et al., 2022, Eq. 7);
            None if the process does not define them.
    """

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor | None = None
    d_sigma: Tensor | None = None
    c_skip: Tensor | None = None
    c_out: Tensor | None = None


class Process(nn.Module, ABC):
    """q(z_t | z_0) at every t, and what depends on the kind of time: how it is drawn, the sampling steps, the network's inputs.

    Attributes:
        first: the noisiest time, where sampling starts.
        clean: the time of clean data, where sampling ends.
        ode_divides_by_alpha: whether the coordinates of `ode` are undefined where alpha is 0.
        sigma_data: standard deviation of latents that it is built for; None if it works with any.
    """

    first: float
    clean: float
    ode_divides_by_alpha = True
    sigma_data: float | None = None

    @abstractmethod
    def at(self, t: Tensor | float, like: Tensor) -> Level:
        """Coefficients at t, a number or `(B,)`, shaped to multiply `like` `(B, C, h, w)`."""

    @abstractmethod
    def draw_times(self, random: StepRNG, device: torch.device) -> Tensor:
        """Times for training, `(B,)`."""

    @abstractmethod
    def spacings(self) -> Mapping[str, Spacing]:
        """Spacings of sampling steps by name; "uniform" is the default."""

    @abstractmethod
    def fraction(self, t: float) -> float:
        """Position of t between clean data (0) and noise (1), for guidance intervals."""

    def time(self, t: float, like: Tensor) -> Tensor:
        """Time t repeated as `(B,)`, on the device of `like` `(B, ...)`."""
        return torch.full((len(like),), t, device=like.device, dtype=like.dtype)

    def network_time(self, t: Tensor) -> Tensor:
        """The time input of the network for times t `(B,)`."""
        return t

    def scale_input(self, z_t: Tensor, t: Tensor) -> Tensor:
        """The latent input of the network for z_t `(B, C, h, w)`."""
        return z_t

    def begin(self, noise: Tensor) -> Tensor:
        """z at the first time, from standard normal noise `(B, C, h, w)`."""
        return noise

    def alpha(self, t: Tensor | float, like: Tensor) -> Tensor:
        """alpha_t, shaped to multiply `like`."""
        return self.at(t, like).alpha

    def sigma(self, t: Tensor | float, like: Tensor) -> Tensor:
        """sigma_t, shaped to multiply `like`."""
        return self.at(t, like).sigma

    def half_log_snr(self, t: Tensor | float, like: Tensor) -> Tensor:
        """lambda_t = log(alpha_t / sigma_t); minus infinity where alpha_t is 0."""
        level = self.at(t, like)
        return torch.log(level.alpha / level.sigma)

    def same_as(self, other: "Process") -> bool:
        """Whether z_t and the network's inputs are the same at every t."""
        if type(self) is not type(other) or (self.first, self.clean) != (other.first, other.clean):
            return False
        times = [self.clean + (self.first - self.clean) * i / 16 for i in range(1, 17)]
        return all(
            math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-7) for t in times for a, b in zip(self._seen(t), other._seen(t), strict=True)
        )

    def _seen(self, t: float) -> list[float]:
        """Values that `same_as` compares at a time."""
        one = torch.ones(1, 1)
        level, time = self.at(t, one), self.time(t, one)
        return [float(x) for x in (level.alpha, level.sigma, self.network_time(time), self.scale_input(one, time))]

    @property
    def pure_noise(self) -> bool:
        """Whether alpha is 0 at the first time, so that z_0 cannot be computed from z_t and the noise there."""
        return bool(self.at(self.first, torch.zeros(1, 1)).alpha == 0)

    def add_noise(self, z_0: Tensor, t: Tensor | float, eps: Tensor) -> Tensor:
        """z_t = alpha_t z_0 + sigma_t eps."""
        level = self.at(t, z_0)
        return level.alpha * z_0 + level.sigma * eps

    def posterior(self, z_0: Tensor, z_t: Tensor, t: Tensor | float, s: Tensor | float) -> Gaussian:
        """q(z_s | z_t, z_0) for s < t (App. B; Kingma et al., 2021, Eq. 27); for neighbouring timesteps the reverse step of DDPM."""
        at_t, at_s = self.at(t, z_t), self.at(s, z_t)
        alpha_ts = at_t.alpha / at_s.alpha
        variance_ts = at_t.sigma**2 - alpha_ts**2 * at_s.sigma**2
        mean = alpha_ts * at_s.sigma**2 / at_t.sigma**2 * z_t + at_s.alpha * variance_ts / at_t.sigma**2 * z_0
        return Gaussian(mean, variance_ts * at_s.sigma**2 / at_t.sigma**2)

    def ode(self, t: float, like: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates (scale, clock) of the probability-flow ODE at t, in which d(z / scale) / d(clock) = `drift`.

        By default those of Karras et al. (2022): z / alpha as a function of sigma / alpha, in which the drift is the noise.
        """
        level = self.at(t, like)
        return level.alpha, level.sigma / level.alpha

    def drift(self, z_0: Tensor, eps: Tensor, t: float) -> Tensor:
        """Right-hand side of the ODE in the coordinates of `ode`, for a predicted clean latent and noise `(B, C, h, w)`."""
        return eps


class ContinuousProcess(Process):
    """A process with real times from 0 to `first`, so that alpha and sigma have derivatives and the velocity is defined.

    Args:
        times: distribution of times in training; uniform if None.
        shift: shift of the sampling steps towards noise, for large images (Esser et al., 2024, Eq. 23); 1 disables it.
        time_scale: the time input of the network is `time_scale * t`.
        time_reversed: the time input is `time_scale * (first - t)`, for networks whose time runs from noise to data.

    Raises:
        ValueError: numbers out of range, or `times` outside the process.
    """

    first: float = 1.0
    clean: float = 0.0
    ode_divides_by_alpha = False
    beyond_first = False  # whether training may use noisier times than sampling starts with

    def __init__(
        self, times: TimeDistribution | None = None, shift: float = 1.0, time_scale: float = 1000.0, time_reversed: bool = False
    ) -> None:
        super().__init__()
        positive(shift=shift, time_scale=time_scale)
        first, clean, self.shift = self.first, self.clean, float(shift)
        self.times = times if times is not None else Uniform(clean, first)
        least, most = self.times(torch.tensor([0.0, 1.0 - 1e-7], dtype=torch.float64, device="cpu")).tolist()
        if least < clean or (most > first and not self.beyond_first):
            raise ValueError(f"times must lie from {clean:g} to {first:g}, but {type(self.times).__name__} draws {least:g} to {most:g}")
        self.time_scale, self.time_reversed = time_scale, time_reversed

    @abstractmethod
    def path(self, t: Tensor) -> Level:
        """alpha, sigma and their derivatives at t, of the shape of t."""

    def at(self, t: Tensor | float, like: Tensor) -> Level:
        if isinstance(t, Tensor):
            return self.path(t.to(like.dtype).view(-1, *[1] * (like.ndim - 1)))
        level = self.path(torch.tensor(t, dtype=torch.float64, device="cpu"))  # one number goes with tensors of any device
        return Level(*(None if x is None else x.to(like.dtype) for x in level))  # type: ignore[arg-type]

    def draw_times(self, random: StepRNG, device: torch.device) -> Tensor:
        return self.times(random.uniform("t")).float().to(device)

    def spacings(self) -> Mapping[str, Spacing]:
        return {"uniform": self.uniform}

    def uniform(self, steps: int) -> list[float]:
        """Evenly spaced from the first time to the clean one, then shifted."""
        fractions = (1.0 - i / steps for i in range(1, steps))
        shifted = (self.shift * f / (1.0 + (self.shift - 1.0) * f) for f in fractions)
        return [self.first, *(self.clean + f * (self.first - self.clean) for f in shifted), self.clean]

    def fraction(self, t: float) -> float:
        return (t - self.clean) / (self.first - self.clean)

    def network_time(self, t: Tensor) -> Tensor:
        return self.time_scale * (self.first - t if self.time_reversed else t)

    def ode(self, t: float, like: Tensor) -> tuple[Tensor, Tensor]:
        """Time itself is the clock: dz / dt is the velocity."""
        return torch.ones((), dtype=like.dtype, device="cpu"), torch.tensor(t, dtype=like.dtype, device="cpu")

    def drift(self, z_0: Tensor, eps: Tensor, t: float) -> Tensor:
        level = self.at(t, z_0)
        assert level.d_alpha is not None and level.d_sigma is not None
        return level.d_alpha * z_0 + level.d_sigma * eps
