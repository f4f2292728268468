"""Heun's method on the probability-flow ODE (Karras et al., 2022, Algorithm 1).

In the coordinates x = z / alpha and sigma = sigma_t / alpha_t the ODE is dx / dsigma = eps(x, sigma).
"""

from torch import Tensor

from ldm.diffusion.guidance import Denoise
from ldm.diffusion.sampling.timesteps import NO_HOOKS, Hooks, Noise, walk
from ldm.diffusion.schedule import NoiseSchedule


def heun(
    denoise: Denoise,
    z_T: Tensor,
    schedule: NoiseSchedule,
    times: list[int],
    *,
    noise: Noise,
    hooks: Hooks = NO_HOOKS,
) -> Tensor:
    """Second order, deterministic, two evaluations per step but for the last onto clean data. Arguments as in `plms`."""
    z = z_T
    for time, t, s in walk(times, z):
        z = hooks.before(z, time)
        eps, z_0 = denoise(z, t)
        if int(s[0]) < 0:
            return hooks.after(z_0, z_0, time)
        alpha_t, alpha_s = schedule.alpha(t, z), schedule.alpha(s, z)
        x = z / alpha_t
        d_sigma = schedule.sigma(s, z) / alpha_s - schedule.sigma(t, z) / alpha_t
        ahead = denoise(alpha_s * (x + d_sigma * eps), s).eps
        z = hooks.after(alpha_s * (x + d_sigma * (eps + ahead) / 2), z_0, time)
    return z
