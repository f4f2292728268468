"""How near a restored image is to the true one, and the simple restorations that a model has to beat."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchvision.transforms.functional import gaussian_blur

RANGE = 2.0  # of values in [-1, 1]
BORDER = 5  # half of SSIM's window


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, per image `(B,)`, of `(B, C, H, W)` in [-1, 1]."""
    return peak_signal_noise_ratio(x, y, data_range=RANGE, reduction="none", dim=(1, 2, 3))


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity (Wang et al., 2004: a Gaussian window of sigma 1.5, 11 pixels), per image `(B,)`, of [-1, 1].

    As published, it is of values from 0 up, since its luminance term compares means with their distance from 0: of [-1, 1] it
    would be another number. And only windows that lie inside the image count; torchmetrics by itself adds reflected borders,
    which in small images are a large part.
    """
    x, y = ((image + 1) / RANGE for image in (x, y))
    _, full = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none", return_full_image=True)
    return full[..., BORDER:-BORDER, BORDER:-BORDER].mean((1, 2, 3))


def error_inside(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error where `mask` `(B, 1, H, W)` is 1, per image `(B,)`; of [-1, 1], so 2 at most."""
    gap = ((x - y).abs() * mask).sum((1, 2, 3))
    return gap / (mask.sum((1, 2, 3)) * x.shape[1])


def enlarge(low: Tensor, factor: int) -> Tensor:
    """Bicubic enlargement `(B, C, h, w)` -> `(B, C, factor h, factor w)`, within [-1, 1]."""
    return F.interpolate(low, scale_factor=factor, mode="bicubic", antialias=True).clamp(-1, 1)


def fill_mean(image: Tensor, mask: Tensor) -> Tensor:
    """The hole in the mean colour of what is known; `(B, C, H, W)` and `(B, 1, H, W)`, 1 = hole."""
    known = 1 - mask
    mean = (image * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True)
    return torch.where(mask > 0, mean, image)


def fill_blur(image: Tensor, mask: Tensor, sigma: float = 1.5) -> Tensor:
    """The hole by a blur of what is known, each pixel with the narrowest one that reaches known pixels.

    A Gaussian average over known pixels alone, whose sigma is doubled until every pixel of the hole has some.

    Args:
        image, mask: `(B, C, H, W)` and `(B, 1, H, W)`, 1 = hole; each image has a known pixel.
        sigma: of the first blur, in pixels.
    """
    filled, left, known = image * (1 - mask), mask.bool(), 1 - mask
    while left.any():
        side = min(2 * round(3 * sigma) + 1, 2 * min(image.shape[2:]) - 1)
        weight = gaussian_blur(known, [side, side], [sigma, sigma])
        average = gaussian_blur(image * known, [side, side], [sigma, sigma]) / weight.clamp(min=1e-12)
        now = left & (weight > 1e-3)
        filled, left, sigma = torch.where(now, average, filled), left & ~now, 2 * sigma
    return filled
