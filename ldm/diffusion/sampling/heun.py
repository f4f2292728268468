"""Euler's and Heun's methods on the probability-flow ODE (Karras et al., 2022, Algorithms 1 and 2).

They step in the coordinates in which the process defines its ODE: time and velocity for flows and EDM; for discrete timesteps
x = z / alpha and sigma / alpha, where dx / d(sigma / alpha) = eps.
"""

import math
from collections.abc import Sequence

from torch import Tensor

from ldm.diffusion.guidance import Denoise
from ldm.diffusion.process import EDM, Process
from ldm.diffusion.sampling.steps import NO_HOOKS, Hooks, Noise, require_ode, step_pairs


def euler(
    denoise: Denoise,
    z_T: Tensor,
    process: Process,
    times: Sequence[float],
    *,
    noise: Noise,
    hooks: Hooks = NO_HOOKS,
) -> Tensor:
    """First order, deterministic, one evaluation per step; same as DDIM for discrete timesteps. Arguments and errors as in `plms`."""
    require_ode("euler", process, times)
    z = z_T
    for t, s in step_pairs(times):
        z = hooks.before(z, t)
        eps, z_0 = denoise(z, t)
        z = hooks.after(z_0 if s == process.clean else _step(process, z, process.drift(z_0, eps, t), t, s), z_0, t)
    return z


def heun(
    denoise: Denoise,
    z_T: Tensor,
    process: Process,
    times: Sequence[float],
    *,
    noise: Noise,
    hooks: Hooks = NO_HOOKS,
    churn: float = 0.0,
    churn_between: tuple[float, float] = (0.0, math.inf),
    churn_noise: float = 1.0,
    at_clean: bool = False,
) -> Tensor:
    """Second order, two evaluations per step except for the last one. Arguments and errors as in `plms`, and:

    Args:
        churn: S_churn of Algorithm 2, noise added before every step, for processes with alpha = 1 (EDM); 0 is deterministic.
        churn_between: S_min and S_max, the range of sigma in which noise is added.
        churn_noise: S_noise, the standard deviation of the added noise.
        at_clean: use two evaluations in the last step too, for networks that are defined at the clean time (velocity).
    """
    require_ode("heun", process, times)
    if churn and not isinstance(process, EDM):
        raise ValueError(f"churn adds noise to a process whose alpha is 1 (EDM), unlike {type(process).__name__}")
    z, gamma = z_T, min(churn / (len(times) - 1), math.sqrt(2.0) - 1.0)
    for t, s in step_pairs(times):
        z = hooks.before(z, t)
        if gamma and churn_between[0] <= t <= churn_between[1]:
            higher = t + gamma * t
            z, t = z + (higher**2 - t**2) ** 0.5 * churn_noise * noise(z), higher
        eps, z_0 = denoise(z, t)
        if s == process.clean and not at_clean:
            return hooks.after(z_0, z_0, t)
        slope = process.drift(z_0, eps, t)
        ahead = denoise(_step(process, z, slope, t, s), s)
        z = hooks.after(_step(process, z, (slope + process.drift(ahead.z_0, ahead.eps, s)) / 2, t, s), z_0, t)
    return z


def _step(process: Process, z: Tensor, slope: Tensor, t: float, s: float) -> Tensor:
    """One step from t to s along a slope."""
    scale_t, clock_t = process.ode(t, z)
    scale_s, clock_s = process.ode(s, z)
    return scale_s * (z / scale_t + (clock_s - clock_t) * slope)
