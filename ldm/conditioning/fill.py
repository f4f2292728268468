"""Holes filled from their surroundings, smoothly: a first guess that needs no model."""

import torch
import torch.nn.functional as F
from torch import Tensor

BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # a Gaussian of one pixel's standard deviation, nearly
LEAST = 1e-3  # share of known pixels that an average needs


def fill_smoothly(image: Tensor, hole: Tensor) -> Tensor:
    """The hole in the colours around it: each pixel takes the narrowest Gaussian average that reaches known pixels.

    The averages are those of a pyramid (normalised convolution; Knutsson and Westin, 1993), each level twice as wide as the one
    below it, so that the work is linear in the number of pixels, whatever the size of the hole. Near its border colours change
    as they do outside; blending the levels instead (pull-push) made all of the hole flatter.

    Args:
        image: `(B, C, H, W)`; inside the hole it has no effect.
        hole: `(B, 1, H, W)` in [0, 1], 1 = hole.

    Returns:
        `(B, C, H, W)`: the image where it is known. Without any known pixel: zeros.
    """
    known = 1 - hole
    return torch.lerp(_average(image * known, known), image, known)


def _average(sums: Tensor, weight: Tensor) -> Tensor:
    """Averages at every pixel of a level, from the sum of what is known in it and its weight, in [0, 1]."""
    height, width = weight.shape[2:]
    reach = _smoothed(weight)
    own = _smoothed(sums) / reach.clamp(min=torch.finfo(reach.dtype).tiny)  # one known pixel of a large image weighs very little
    if max(height, width) == 1:
        return own
    half = (F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False) for x in (sums, weight))
    # The rows and columns that ceil_mode adds at an odd border lie outside of this level.
    above = F.interpolate(_average(*half), scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.where(reach > LEAST, own, above)


def _smoothed(x: Tensor) -> Tensor:
    """`(B, C, h, w)` by the binomial filter along both axes, with zeros outside; in its own precision, also under autocast."""
    height, width = x.shape[2:]
    x = F.pad(x, (2, 2, 2, 2))
    x = torch.stack([share * x[:, :, i : i + height] for i, share in enumerate(BINOMIAL)]).sum(0)
    return torch.stack([share * x[..., i : i + width] for i, share in enumerate(BINOMIAL)]).sum(0)
