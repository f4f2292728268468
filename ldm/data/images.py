"""Read an image file of any mode into a tensor."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ldm.data.transforms import UnreadableImage
from ldm.system.image_files import open_image


def read_image(path: Path | BinaryIO, channels: int) -> Image.Image:
    """Open an image as grey (1 channel), RGB (3) or RGBA (4), upright by its EXIF tag; without a channel for it, transparency over white.

    16-bit grey images are reduced to 8 bit by their value range 0 to 65535, to the nearest value (for 16-bit colours Pillow itself
    uses the upper byte); of an animation, the first frame is used.

    Raises:
        UnreadableImage: truncated, unknown or an unsupported mode (32-bit pixels), or a number of channels other than
            1, 3 and 4.
    """
    return converted(_upright(path), channels)


def read_deep(path: Path | BinaryIO) -> Image.Image | np.ndarray:
    """Open a grey image with its 16 bits, `(H, W, 1)` float32 in [-1, 1]; an image of 8 bits as `read_image` does.

    Raises:
        UnreadableImage: see `read_image`.
    """
    image = _upright(path)
    if image.mode.startswith("I;16"):
        return np.asarray(image, dtype=np.float32)[..., None] / 32767.5 - 1
    return converted(image, 1)


def _upright(path: Path | BinaryIO) -> Image.Image:
    try:
        with open_image(path) as opened:
            image = ImageOps.exif_transpose(opened)
            image.load()
    except Exception as error:  # Pillow's plugins raise many kinds; each means that this file cannot be read
        raise UnreadableImage(f"cannot be read ({error})") from error
    return image


def converted(image: Image.Image, channels: int) -> Image.Image:
    """An opened image as `read_image` gives it."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).round().astype(np.uint8))
    if image.mode in ("F", "I"):
        raise UnreadableImage("32-bit pixels, whose range is not known: expected 8 or 16 bit")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if channels != 4:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if channels not in (1, 3, 4):
        raise UnreadableImage(f"a photograph, which cannot give {channels} channels: expected .npy, .npz or .tif")
    try:
        return image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    except ValueError as error:
        raise UnreadableImage(f"a {image.mode} image: {error}") from error


def to_tensor(image: Image.Image | np.ndarray) -> Tensor:
    """8-bit image, or `(H, W, C)` uint8 -> `(C, H, W)` float32 in [-1, 1]."""
    array = np.asarray(image, dtype=np.float32) / 127.5 - 1.0
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def visible(x: Tensor) -> Tensor:
    """Visible channels of `(C, H, W)`: one or three unchanged, the first of two, the first three of more."""
    return x[:3] if len(x) >= 3 else x[:1]


def to_pixels(x: Tensor) -> np.ndarray:
    """`(C, H, W)` in [-1, 1] -> `(H, W, C)` uint8, rounded to the nearest value."""
    pixels = ((x.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(1, 2, 0).contiguous().numpy()


def to_image(x: Tensor) -> Image.Image:
    """`(C, H, W)` in [-1, 1] -> 8-bit RGBA image of four channels, otherwise grey or RGB image of the visible ones."""
    pixels = to_pixels(x if len(x) == 4 else visible(x))
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
