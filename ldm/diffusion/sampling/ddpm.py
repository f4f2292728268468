"""Ancestral sampling (Ho et al., 2020; App. B)."""

from collections.abc import Sequence

from torch import Tensor

from ldm.diffusion.guidance import Denoise
from ldm.diffusion.process import Process
from ldm.diffusion.sampling.steps import NO_HOOKS, Hooks, Noise, step_pairs


def ddpm(
    denoise: Denoise,
    z_T: Tensor,
    process: Process,
    times: Sequence[float],
    *,
    noise: Noise,
    hooks: Hooks = NO_HOOKS,
    v: float = 0.0,
) -> Tensor:
    """Draw each z_s from q(z_s | z_t, z_0) with the predicted z_0; with all T timesteps this is the chain of the paper.

    Args:
        denoise: (z_t, t) -> Prediction.
        z_T: `(B, C, h, w)` at the first of the times, see `Process.begin`.
        process: the model's.
        times: decreasing, the noisiest first: see `Process.spacings`.
        noise: source of fresh noise, one stream per image.
        hooks: called around every step.
        v: interpolates the variance from its lower bound, the posterior's (0), to its upper bound, that of q(z_t | z_s) (1).

    Returns:
        The latent at the last time, `(B, C, h, w)`.
    """
    z = z_T
    for t, s in step_pairs(times):
        z = hooks.before(z, t)
        z_0 = denoise(z, t).z_0
        mean, variance = process.posterior(z_0, z, t, s)
        if v:
            alpha_ts = process.alpha(t, z) / process.alpha(s, z)
            variance = (1.0 - v) * variance + v * (process.sigma(t, z) ** 2 - alpha_ts**2 * process.sigma(s, z) ** 2)
        z = mean + variance.sqrt() * noise(z) if s != process.clean else mean
        z = hooks.after(z, z_0, t)
    return z
