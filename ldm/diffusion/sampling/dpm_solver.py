"""DPM-Solver++ (Lu et al., 2022), second order multistep, as an ODE and as an SDE.

Both integrate exactly but for the predicted clean latent, which they extrapolate in half the log signal-to-noise ratio
lambda = log(alpha / sigma).
"""

import torch
from torch import Tensor

from ldm.diffusion.guidance import Denoise
from ldm.diffusion.sampling.timesteps import NO_HOOKS, Hooks, Noise, walk
from ldm.diffusion.schedule import NoiseSchedule


def dpm_solver(
    denoise: Denoise,
    z_T: Tensor,
    schedule: NoiseSchedule,
    times: list[int],
    *,
    noise: Noise,
    hooks: Hooks = NO_HOOKS,
) -> Tensor:
    """DPM-Solver++(2M): deterministic, one evaluation per step. Arguments as in `plms`."""
    return _multistep(denoise, z_T, schedule, times, None, hooks)


def dpm_solver_sde(
    denoise: Denoise,
    z_T: Tensor,
    schedule: NoiseSchedule,
    times: list[int],
    *,
    noise: Noise,
    hooks: Hooks = NO_HOOKS,
) -> Tensor:
    """SDE-DPM-Solver++(2M): stochastic, one evaluation per step. Arguments as in `plms`, and `noise` is drawn from."""
    return _multistep(denoise, z_T, schedule, times, noise, hooks)


def _multistep(denoise: Denoise, z: Tensor, schedule: NoiseSchedule, times: list[int], noise: Noise | None, hooks: Hooks) -> Tensor:
    previous: tuple[Tensor, Tensor] | None = None  # clean latent and lambda of the step before
    for time, t, s in walk(times, z):
        z = hooks.before(z, time)
        z_0 = denoise(z, t).z_0
        if int(s[0]) < 0:
            return hooks.after(z_0, z_0, time)
        alpha_s, sigma_s, sigma_t = schedule.alpha(s, z), schedule.sigma(s, z), schedule.sigma(t, z)
        lambda_t = torch.log(schedule.alpha(t, z) / sigma_t)
        h = torch.log(alpha_s / sigma_s) - lambda_t
        D = z_0
        if previous is not None:
            before, lambda_before = previous
            r = (lambda_t - lambda_before) / h
            D = z_0 + (z_0 - before) / (2 * r)
        if noise is None:
            z = sigma_s / sigma_t * z - alpha_s * torch.expm1(-h) * D
        else:
            kept = -torch.expm1(-2 * h)  # share of the variance that is drawn anew
            z = sigma_s / sigma_t * torch.exp(-h) * z + alpha_s * kept * D + sigma_s * kept.sqrt() * noise(z)
        previous = (z_0, lambda_t)
        z = hooks.after(z, z_0, time)
    return z
