"""Ancestral sampling (Ho et al., 2020; App. B)."""

from torch import Tensor

from ldm.diffusion.guidance import Denoise
from ldm.diffusion.sampling.timesteps import NO_HOOKS, Hooks, Noise, walk
from ldm.diffusion.schedule import NoiseSchedule


def ddpm(
    denoise: Denoise,
    z_T: Tensor,
    schedule: NoiseSchedule,
    times: list[int],
    *,
    noise: Noise,
    hooks: Hooks = NO_HOOKS,
    v: float = 0.0,
) -> Tensor:
    """Draw each z_s from q(z_s | z_t, z_0) with the predicted z_0; with all T times this is the chain of the paper.

    Args:
        denoise: (z_t, t) -> Prediction.
        z_T: `(B, C, h, w)` standard normal.
        schedule: noise schedule.
        times: see `timesteps`.
        noise: source of fresh noise, one stream per image.
        hooks: what happens around every step.
        v: the variance lies this share of the way from the posterior's, its lower bound, to that of q(z_t | z_s), its upper.

    Returns:
        The latent at the last time, `(B, C, h, w)`.
    """
    z = z_T
    for time, t, s in walk(times, z):
        z = hooks.before(z, time)
        z_0 = denoise(z, t).z_0
        mean, variance = schedule.posterior(z_0, z, t, s)
        if v:
            variance = (1.0 - v) * variance + v * (1.0 - (schedule.alpha(t, z) / schedule.alpha(s, z)) ** 2)
        z = mean + variance.sqrt() * noise(z) if int(s[0]) >= 0 else mean
        z = hooks.after(z, z_0, time)
    return z
