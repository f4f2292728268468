"""Discrete timesteps: tables of alpha_t and sigma_t, from the betas of a forward chain (App. B, Eq. 4).

alpha_t and sigma_t are the paper's: alpha_t^2 + sigma_t^2 = 1. Other code often calls alpha_t^2 "alphas_cumprod".
Index t = 0 ... T-1 stands for the paper's 1 ... T; t = -1 stands for clean data (alpha = 1, sigma = 0).
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ldm.diffusion.process.base import Level, Process, Spacing
from ldm.diffusion.process.spacing import linspace, original_quadratic, original_uniform, uniform
from ldm.ranges import integer, number, share
from ldm.rng import StepRNG


class DiscreteProcess(Process):
    """alpha_t and sigma_t for all t, from the betas of the forward chain.

    Buffers are derived and never part of a checkpoint. They have T + 1 entries: entry 0 is clean data.

    Args:
        betas: `(T,)` in (0, 1], float64 to keep the cumulative product exact.
    """

    def __init__(self, betas: Tensor) -> None:
        super().__init__()
        if betas.ndim != 1 or len(betas) < 2 or not bool(((betas > 0) & (betas <= 1)).all()):
            raise ValueError("betas must be at least 2 values in (0, 1]")
        alpha_squared = torch.cat([betas.new_ones(1, dtype=torch.float64), torch.cumprod(1.0 - betas.double(), dim=0)])
        self.T = len(betas)
        self.first, self.clean = self.T - 1, -1
        self.betas = betas.double()  # an attribute, not a buffer: some devices have no float64
        self.register_buffer("_alpha", alpha_squared.sqrt().float(), persistent=False)
        self.register_buffer("_sigma", (1.0 - alpha_squared).sqrt().float(), persistent=False)
        self._alpha: Tensor
        self._sigma: Tensor

    def at(self, t: Tensor | float, like: Tensor) -> Level:
        index = t + 1 if isinstance(t, Tensor) else int(t) + 1
        shape = [-1, *[1] * (like.ndim - 1)]
        return Level(*(table[index].to(like.dtype).view(shape) for table in (self._alpha, self._sigma)))

    def exact(self) -> Level:
        """alpha and sigma at t = 0 ... T-1 in float64, `(T,)` on the CPU: float32 is not precise enough for small alpha / sigma."""
        squared = torch.cumprod(1.0 - self.betas, dim=0)
        return Level(squared.sqrt(), (1.0 - squared).sqrt())

    def draw_times(self, random: StepRNG, device: torch.device) -> Tensor:
        return random.integers("t", self.T, device)

    def spacings(self) -> Mapping[str, Spacing]:
        kinds = {"uniform": uniform, "original_uniform": original_uniform, "original_quadratic": original_quadratic, "linspace": linspace}
        return {name: partial(kind, self.T) for name, kind in kinds.items()}

    def fraction(self, t: float) -> float:
        return t / self.T

    def time(self, t: float, like: Tensor) -> Tensor:
        return torch.full((len(like),), int(t), device=like.device)

    @property
    def pure_noise(self) -> bool:
        return float(self.betas[-1]) == 1.0

    def prior_bits(self, z_0: Tensor) -> Tensor:
        """KL(q(z_T | z_0) || N(0, I)) in bits per dimension, `(B,)`: the part of the bound that training cannot change."""
        t = torch.full((len(z_0),), self.T - 1, device=z_0.device)
        mean, variance = self.alpha(t, z_0) * z_0, self.sigma(t, z_0) ** 2
        zero = torch.zeros_like(mean)
        return normal_kl(mean, variance.log(), zero, zero).flatten(1).mean(dim=1) / math.log(2.0)


def normal_kl(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL(N(mean, e^log_variance) || N(other...)) in nats, element by element."""
    ratio = torch.exp(log_variance - other_log_variance)
    return 0.5 * (other_log_variance - log_variance + ratio + (mean - other_mean) ** 2 * torch.exp(-other_log_variance) - 1.0)


# The tables below are computed on the CPU even if the model is built on the meta device, because their values are checked.


def _check(T: int, **betas: float) -> None:
    """Validate the number of timesteps and the smallest and largest beta."""
    integer(2, 1_000_000, T=T)
    share(**betas)
    if any(value == 0 for value in betas.values()):
        raise ValueError(f"betas must be above 0, got {betas}")


def _schedule(betas: Tensor, zero_terminal_snr: bool) -> DiscreteProcess:
    """With `zero_terminal_snr`, rescale alpha_t so that it ends at 0 and its first value is kept (Lin et al., 2024, Algorithm 1)."""
    if zero_terminal_snr:
        alpha = torch.cumprod(1.0 - betas, dim=0).sqrt()
        alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
        squared = torch.cat([alpha.new_ones(1), alpha**2])
        betas = 1.0 - squared[1:] / squared[:-1]
    return DiscreteProcess(betas)


def scaled_linear(T: int = 1000, start: float = 0.0015, end: float = 0.0195, zero_terminal_snr: bool = False) -> DiscreteProcess:
    """Linear in sqrt(beta): what the paper's code calls "linear", although it is not linear in beta."""
    _check(T, start=start, end=end)
    return _schedule(torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64, device="cpu") ** 2, zero_terminal_snr)


def linear(T: int = 1000, start: float = 1e-4, end: float = 2e-2, zero_terminal_snr: bool = False) -> DiscreteProcess:
    """Linear in beta (Ho et al., 2020); the paper's code calls it "sqrt_linear"."""
    _check(T, start=start, end=end)
    return _schedule(torch.linspace(start, end, T, dtype=torch.float64, device="cpu"), zero_terminal_snr)


def sqrt(T: int = 1000, start: float = 1e-4, end: float = 2e-2, zero_terminal_snr: bool = False) -> DiscreteProcess:
    """beta is the square root of a line from `start` to `end`: the strongest noise of the four."""
    _check(T, start=start, end=end)
    return _schedule(torch.linspace(start, end, T, dtype=torch.float64, device="cpu") ** 0.5, zero_terminal_snr)


def cosine(T: int = 1000, s: float = 8e-3, zero_terminal_snr: bool = False) -> DiscreteProcess:
    """alpha_t^2 follows a squared cosine (Nichol and Dhariwal, 2021, Eq. 17); beta at most 0.999."""
    _check(T)
    number(0, 1, s=s)
    time = torch.arange(T + 1, dtype=torch.float64, device="cpu") / T
    alpha_squared = torch.cos((time + s) / (1 + s) * math.pi / 2) ** 2
    alpha_squared = alpha_squared / alpha_squared[0].clone()
    return _schedule((1 - alpha_squared[1:] / alpha_squared[:-1]).clamp(max=0.999), zero_terminal_snr)


def from_betas(betas: Sequence[float]) -> DiscreteProcess:
    """Any list of T betas in (0, 1]."""
    return DiscreteProcess(torch.tensor(list(betas), dtype=torch.float64, device="cpu"))
