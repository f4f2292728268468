"""Known regions put back before every step: inpainting with a model that was not trained for it."""

import torch
from torch import Tensor

from ldm.diffusion.sampling.timesteps import Hooks, Noise
from ldm.diffusion.schedule import NoiseSchedule


def known_region(known: Tensor, hole: Tensor, schedule: NoiseSchedule, noise: Noise) -> Hooks:
    """Before every step, z_t outside the hole becomes the known latent noised to the same t.

    This is the original samplers' `mask` (which is 1 where this hole is 0). What follows the last step is the caller's:
    the predicted clean latent outside the hole is near the known one, not equal to it.

    Args:
        known: clean latent `(B, c, h, w)`.
        hole: `(B, 1, h, w)`, 1 where the model is free.
        schedule: the model's.
        noise: source of fresh noise, one stream per image.
    """

    def before(z_t: Tensor, t: int) -> Tensor:
        at = torch.full((len(z_t),), t, device=z_t.device)
        return hole * z_t + (1.0 - hole) * schedule.add_noise(known, at, noise(z_t))

    return Hooks(before=before)
