"""Resize image arrays with the methods used by degradations."""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

Method = Literal["linear", "cubic", "area", "antialiased"]


def resize(image: np.ndarray, size: tuple[int, int], method: Method) -> np.ndarray:
    """Resize `(H, W, C)` float32 to `(h, w, C)`; with the half-pixel convention.

    Args:
        size: h and w.
        method: "linear" and "cubic" use the nearest 2 and 4 pixels per axis at any scale, and so alias, like
            OpenCV's INTER_LINEAR and INTER_CUBIC (Keys' cubic with a = -0.75); "area" averages exactly the area that a new
            pixel covers (INTER_AREA); "antialiased" is cubic (a = -0.5) with its support widened by the reduction, as
            Pillow's BICUBIC and MATLAB's imresize.

    Returns:
        float32; "cubic" and "antialiased" can overshoot the range of the input.
    """
    if method == "area":
        rows, columns = (coverage(old, new) for old, new in zip(image.shape[:2], size, strict=True))
        return np.einsum("hH,HWC,wW->hwC", rows, image, columns, optimize=True).astype(np.float32)
    x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    mode = "bilinear" if method == "linear" else "bicubic"
    y = F.interpolate(x, size=size, mode=mode, align_corners=False, antialias=method == "antialiased")
    return y[0].permute(1, 2, 0).numpy()


def coverage(old: int, new: int) -> np.ndarray:
    """`(new, old)` float64: the share of each new pixel of an axis that each old one covers; rows sum to 1."""
    edges = np.arange(new + 1) * (old / new)
    left, right = edges[:-1, None], edges[1:, None]
    pixels = np.arange(old)[None]
    overlap = np.minimum(right, pixels + 1) - np.maximum(left, pixels)
    return np.clip(overlap, 0, None) * (new / old)
