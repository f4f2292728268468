"""Known regions replaced before every step: inpainting with a model that was not trained for it."""

from torch import Tensor

from ldm.diffusion.process import Process
from ldm.diffusion.sampling.steps import Hooks, Noise


def known_region(known: Tensor, mask: Tensor, process: Process, noise: Noise) -> Hooks:
    """Before every step, replace z_t outside the mask by the known latent noised to the same t.

    The mask of the original samplers is the inverse of this one. The caller handles the last step, after which the clean latent outside
    the mask is close to the known one but not equal to it.

    Args:
        known: clean latent `(B, c, h, w)`.
        mask: `(B, 1, h, w)`, 1 where the model generates.
        process: the model's.
        noise: source of fresh noise, one stream per image.
    """

    def before(z_t: Tensor, t: float) -> Tensor:
        return mask * z_t + (1.0 - mask) * process.add_noise(known, t, noise(z_t))

    return Hooks(before=before)
