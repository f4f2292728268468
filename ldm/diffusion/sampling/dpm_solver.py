"""DPM-Solver++ (Lu et al., 2022), second order multistep, as an ODE and as an SDE.

Both integrate exactly except for the predicted clean latent, which they extrapolate in half the log signal-to-noise ratio
lambda = log(alpha / sigma).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ldm.diffusion.guidance import Denoise
from ldm.diffusion.process import Process
from ldm.diffusion.sampling.steps import NO_HOOKS, Hooks, Noise, step_pairs


def dpm_solver(
    denoise: Denoise,
    z_T: Tensor,
    process: Process,
    times: Sequence[float],
    *,
    noise: Noise,
    hooks: Hooks = NO_HOOKS,
) -> Tensor:
    """DPM-Solver++(2M): deterministic, one evaluation per step. Arguments as in `plms`."""
    return _multistep(denoise, z_T, process, times, None, hooks)


def dpm_solver_sde(
    denoise: Denoise,
    z_T: Tensor,
    process: Process,
    times: Sequence[float],
    *,
    noise: Noise,
    hooks: Hooks = NO_HOOKS,
) -> Tensor:
    """SDE-DPM-Solver++(2M): stochastic, one evaluation per step. Arguments as in `plms`; `noise` is used."""
    return _multistep(denoise, z_T, process, times, noise, hooks)


def _multistep(denoise: Denoise, z: Tensor, process: Process, times: Sequence[float], noise: Noise | None, hooks: Hooks) -> Tensor:
    previous: tuple[Tensor, Tensor] | None = None  # predicted clean latent and lambda of the previous step
    for t, s in step_pairs(times):
        z = hooks.before(z, t)
        z_0 = denoise(z, t).z_0
        if s == process.clean:
            return hooks.after(z_0, z_0, t)
        alpha_s, sigma_s, sigma_t = process.alpha(s, z), process.sigma(s, z), process.sigma(t, z)
        lambda_t = process.half_log_snr(t, z)
        h = process.half_log_snr(s, z) - lambda_t
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
        z = hooks.after(z, z_0, t)
    return z
