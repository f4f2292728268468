"""Holes filled from their surroundings, smoothly: a first guess that needs no model."""

import torch
import torch.nn.functional as F
from torch import Tensor


def fill_smoothly(image: Tensor, hole: Tensor) -> Tensor:
    """The hole in the colours around it, by a pyramid of averages over known pixels (pull-push; Gortler et al., 1996, Sec. 3.4).

    Going up, each level averages 2x2 pixels by how much of them is known; coming back, what is unknown takes the bilinear
    enlargement of the level above. The work is linear in the number of pixels, whatever the size of the hole.

    Args:
        image: `(B, C, H, W)`; inside the hole it has no effect.
        hole: `(B, 1, H, W)` in [0, 1], 1 = hole.

    Returns:
        `(B, C, H, W)`: the image where it is known. Without any known pixel: zeros.
    """
    known = 1 - hole
    return _fill(image * known, known)


def _fill(sums: Tensor, weight: Tensor) -> Tensor:
    """Values of a level, from the sum of what is known in a pixel and its weight, in [0, 1]."""
    height, width = weight.shape[2:]
    own = sums / weight.clamp(min=1e-6)
    if max(height, width) == 1:
        return own
    half = [F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False) for x in (sums, weight)]
    reach = (4 * half[1]).clamp(max=1)  # one known pixel of four says enough for all
    above = _fill(half[0] * reach / half[1].clamp(min=1e-6), reach)
    # The rows and columns that ceil_mode adds at an odd border lie outside of this level.
    enlarged = F.interpolate(above, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.lerp(enlarged, own, weight)
