"""DDIM (Song et al., 2021): the paper's sampler."""

from torch import Tensor

from ldm.diffusion.guidance import Denoise
from ldm.diffusion.sampling.timesteps import NO_HOOKS, Hooks, Noise, walk
from ldm.diffusion.schedule import NoiseSchedule


def ddim(
    denoise: Denoise,
    z_T: Tensor,
    schedule: NoiseSchedule,
    times: list[int],
    *,
    noise: Noise,
    eta: float = 0.0,
    hooks: Hooks = NO_HOOKS,
) -> Tensor:
    """z_s = alpha_s z_0 + sqrt(sigma_s^2 - d^2) eps + d * noise, with d = eta * the posterior's standard deviation.

    Args:
        denoise: (z_t, t) -> Prediction.
        z_T: `(B, C, h, w)` standard normal.
        schedule: noise schedule.
        times: see `timesteps`.
        noise: source of fresh noise, one stream per image; not asked when eta is 0.
        eta: 0 is deterministic; 1 with all T times is ancestral sampling.
        hooks: what happens around every step.

    Returns:
        The latent at the last time, `(B, C, h, w)`.
    """
    z = z_T
    for time, t, s in walk(times, z):
        z = hooks.before(z, time)
        eps, z_0 = denoise(z, t)
        if int(s[0]) < 0:
            return hooks.after(z_0, z_0, time)
        deviation = eta * schedule.posterior(z_0, z, t, s).variance.sqrt()
        z = schedule.alpha(s, z) * z_0 + (schedule.sigma(s, z) ** 2 - deviation**2).clamp(min=0).sqrt() * eps
        if eta > 0:
            z = z + deviation * noise(z)
        z = hooks.after(z, z_0, time)
    return z
