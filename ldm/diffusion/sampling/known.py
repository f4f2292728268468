"""Known regions put back before every step: inpainting with a model that was not trained for it."""

from torch import Tensor

from ldm.diffusion.process import Process
from ldm.diffusion.sampling.steps import Hooks, Noise


def known_region(known: Tensor, mask: Tensor, process: Process, noise: Noise) -> Hooks:
    """Before every step, z_t outside the mask becomes the known latent noised to the same t.

    The original samplers' `mask` is the other way round. What follows the last step is the caller's: the predicted clean
    latent outside the mask is near the known one, not equal to it.

    Args:
        known: clean latent `(B, c, h, w)`.
        mask: `(B, 1, h, w)`, 1 where the model is free.
        process: the model's.
        noise: source of fresh noise, one stream per image.
    """

    def before(z_t: Tensor, t: float) -> Tensor:
        return mask * z_t + (1.0 - mask) * process.add_noise(known, t, noise(z_t))

    return Hooks(before=before)
