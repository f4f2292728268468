"""Weightings of the loss over time: one function per weighting.

A weighting is defined for the error of the clean latent; multiplying by `Parameterization.to_z_0` makes it one for the network's error.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ldm.diffusion.parameterization import Parameterization
from ldm.diffusion.process import DiscreteProcess, Level
from ldm.ranges import positive

__all__ = ["edm", "likelihood", "min_snr", "velocity"]  # what configs may name

Weighting = Callable[[Level, Parameterization], Tensor]  # -> factor of the network's squared error, (B, 1, 1, 1)


def min_snr(gamma: float) -> Weighting:
    """min(SNR, gamma) on the clean latent's error (Hang et al., 2023)."""
    positive(gamma=gamma)

    def weight(at: Level, parameterization: Parameterization) -> Tensor:
        return ((at.alpha / at.sigma) ** 2).clamp(max=gamma) * parameterization.to_z_0(at)

    return weight


def edm(sigma_data: float = 0.5) -> Weighting:
    """(sigma^2 + sigma_data^2) / (sigma sigma_data)^2 on the clean latent's error (Karras et al., 2022, Table 1).

    With EDM's own parameterization that is 1 for the network's error, at every sigma.
    """
    positive(sigma_data=sigma_data)

    def weight(at: Level, parameterization: Parameterization) -> Tensor:
        return (1.0 / sigma_data**2 + (at.alpha / at.sigma) ** 2) * parameterization.to_z_0(at)

    return weight


def velocity() -> Weighting:
    """The error of the velocity, whatever the network predicts: (det / sigma)^2 on the clean latent's error."""

    def weight(at: Level, parameterization: Parameterization) -> Tensor:
        return (_slope(at, "velocity") / at.sigma) ** 2 * parameterization.to_z_0(at)

    return weight


def likelihood() -> Weighting:
    """Minus half the slope of the signal-to-noise ratio: the variational bound in continuous time (Kingma et al., 2021, Eq. 14)."""

    def weight(at: Level, parameterization: Parameterization) -> Tensor:
        return at.alpha * _slope(at, "likelihood") / at.sigma**3 * parameterization.to_z_0(at)

    return weight


def _slope(at: Level, name: str) -> Tensor:
    """alpha sigma' - sigma alpha'.

    Raises:
        ValueError: timesteps are discrete.
    """
    if at.d_alpha is None or at.d_sigma is None:
        raise ValueError(f"weighting {name} needs a process with derivatives, not discrete timesteps")
    return at.alpha * at.d_sigma - at.sigma * at.d_alpha


def vlb_weights(process: DiscreteProcess, parameterization: Parameterization, kind: Literal["exact", "original"] = "exact") -> Tensor:
    """v_t `(T,)`: half the step of the signal-to-noise ratio (SNR_s - SNR_t) / 2 with s = t - 1, per error of the output.

    The first weight, which would be infinite, is the second's, as in the original. "original" differs from "exact" for x0
    prediction only, where it has a misplaced parenthesis.
    """
    squared = torch.cumprod(1.0 - process.betas, dim=0)
    if kind == "original" and type(parameterization).__name__ == "X0":
        weights = 0.5 * squared.sqrt() / (2.0 - squared)
    else:
        snr = squared / (1.0 - squared)
        before = torch.cat([snr[:1], snr[:-1]])
        # to_z_0 is infinite where alpha is 0; SNR_t is 0 there, and eps prediction does not support that timestep.
        weights = 0.5 * (before - snr) * parameterization.to_z_0(process.exact())
    weights[0] = weights[1] if len(weights) > 1 else weights[0]
    return weights.float()
