"""Fill masked regions smoothly from their surroundings: a first estimate that needs no model."""

import torch
import torch.nn.functional as F
from torch import Tensor

BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # approximately a Gaussian with a standard deviation of one pixel
LEAST = 1e-3  # minimum share of known pixels in an average


def fill_smoothly(image: Tensor, mask: Tensor) -> Tensor:
    """Fill the mask with the colours around it: each pixel is the narrowest Gaussian average that reaches known pixels.

    The averages are those of a pyramid (normalised convolution; Knutsson and Westin, 1993), each level twice as wide as the one
    below it, so that the work is linear in the number of pixels, whatever the size of the mask. Near its border, colours continue
    the gradient outside; blending the levels instead (pull-push) gave flatter results.

    Args:
        image: `(B, C, H, W)`; inside the mask it has no effect.
        mask: `(B, 1, H, W)` in [0, 1], 1 where pixels are to be filled.

    Returns:
        `(B, C, H, W)`, equal to the image outside the mask; zeros if no pixel is known.
    """
    known = 1 - mask
    return torch.lerp(_average(image * known, known), image, known)


def _average(sums: Tensor, weight: Tensor) -> Tensor:
    """Averages at every pixel of a level, from the sum of known values and their weight in [0, 1]."""
    height, width = weight.shape[2:]
    reach = _smoothed(weight)
    own = _smoothed(sums) / reach.clamp(min=torch.finfo(reach.dtype).tiny)  # a single known pixel of a large image has a very small weight
    if max(height, width) == 1:
        return own
    half = (F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False) for x in (sums, weight))
    # The rows and columns that ceil_mode adds at an odd border are outside this level.
    above = F.interpolate(_average(*half), scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.where(reach > LEAST, own, above)


def _smoothed(x: Tensor) -> Tensor:
    """Binomial filter along both axes of `(B, C, h, w)`, zero-padded; keeps the input's dtype, also under autocast."""
    height, width = x.shape[2:]
    x = F.pad(x, (2, 2, 2, 2))
    x = torch.stack([share * x[:, :, i : i + height] for i, share in enumerate(BINOMIAL)]).sum(0)
    return torch.stack([share * x[..., i : i + width] for i, share in enumerate(BINOMIAL)]).sum(0)
