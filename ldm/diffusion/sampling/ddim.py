"""DDIM (Song et al., 2021): the paper's sampler."""

from collections.abc import Sequence

from torch import Tensor

from ldm.diffusion.guidance import Denoise
from ldm.diffusion.process import Process
from ldm.diffusion.sampling.steps import NO_HOOKS, Hooks, Noise, step_pairs


def ddim(
    denoise: Denoise,
    z_T: Tensor,
    process: Process,
    times: Sequence[float],
    *,
    noise: Noise,
    eta: float = 0.0,
    hooks: Hooks = NO_HOOKS,
) -> Tensor:
    """z_s = alpha_s z_0 + sqrt(sigma_s^2 - d^2) eps + d * noise, with d = eta * the posterior's standard deviation.

    Args:
        denoise: (z_t, t) -> Prediction.
        z_T: `(B, C, h, w)` at the first of the times, see `Process.begin`.
        process: the model's.
        times: decreasing, the noisiest first: see `Process.spacings`.
        noise: source of fresh noise, one stream per image; not used if eta is 0.
        eta: 0 is deterministic; 1 with all T timesteps is ancestral sampling.
        hooks: called around every step.

    Returns:
        The latent at the last time, `(B, C, h, w)`.
    """
    z = z_T
    for t, s in step_pairs(times):
        z = hooks.before(z, t)
        eps, z_0 = denoise(z, t)
        if s == process.clean:
            return hooks.after(z_0, z_0, t)
        deviation = eta * process.posterior(z_0, z, t, s).variance.sqrt()
        z = process.alpha(s, z) * z_0 + (process.sigma(s, z) ** 2 - deviation**2).clamp(min=0).sqrt() * eps
        if eta > 0:
            z = z + deviation * noise(z)
        z = hooks.after(z, z_0, t)
    return z
