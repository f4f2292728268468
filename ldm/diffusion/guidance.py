"""Guidance: functions from a denoiser to a denoiser."""

from collections.abc import Callable

import torch
from torch import Tensor

from ldm.diffusion.parameterization import Prediction

Denoise = Callable[[Tensor, Tensor], Prediction]  # (z_t, t), conditioning already inside


def classifier_free(denoise_both: Denoise, scale: float) -> Denoise:
    """eps_null + scale (eps_cond - eps_null) (Ho and Salimans, 2022), in one batched call.

    Args:
        denoise_both: denoiser of 2B latents: the first B under the condition, the last B under the null condition.
        scale: 1 is the conditional model itself; larger values follow the condition more closely.
    """

    def denoise(z_t: Tensor, t: Tensor) -> Prediction:
        both = denoise_both(torch.cat([z_t, z_t]), torch.cat([t, t]))
        guided = [null + scale * (cond - null) for cond, null in (view.chunk(2) for view in both)]
        return Prediction(*guided)

    return denoise
