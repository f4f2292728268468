"""Resize, crop and flip images together with their boxes and label maps."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ldm.data.resize import resize as resample

Crop = Literal["center", "random"]
MAX_ENLARGEMENT = 4  # maximum factor; smaller images would be blurred
MAX_ASPECT_RATIO = 40  # maximum ratio of sides; longer images would exhaust the memory after scaling


class UnreadableImage(ValueError):
    """An image file that cannot be used; the message says why."""


@dataclass(frozen=True)
class View:
    """A square at (left, top) of the image scaled to `width` x `height`, optionally flipped.

    It has `side` pixels, which are scaled to `size`, or `size` pixels if `side` is 0.
    """

    width: int
    height: int
    left: int
    top: int
    size: int
    mirrored: bool = False
    side: int = 0

    def picture(self, image: Image.Image) -> Image.Image:
        """The square of an image, antialiased bicubic; a larger `side` is reduced by area averaging."""
        scaled, side = image.resize((self.width, self.height), Image.Resampling.BICUBIC), self.side or self.size
        cut = scaled.crop((self.left, self.top, self.left + side, self.top + side))
        if side > self.size:
            pixels = np.asarray(cut, dtype=np.float32).reshape(side, side, -1)
            cut = Image.fromarray(np.round(resample(pixels, (self.size, self.size), "area")).astype(np.uint8).squeeze())
        elif side < self.size:
            cut = cut.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.mirrored else cut

    def array(self, values: np.ndarray) -> np.ndarray:
        """The square of `(H, W, C)` float32, channel by channel as in `picture`, clipped to the range of `values`."""
        channels = [np.asarray(self.picture(Image.fromarray(np.ascontiguousarray(channel)))) for channel in np.moveaxis(values, 2, 0)]
        return np.stack(channels, 2).clip(values.min(), values.max())

    def labels(self, classes: np.ndarray) -> Tensor:
        """The square of a label map `(H, W)`, nearest: int64 `(size, size)`."""
        scaled = Image.fromarray(classes.astype(np.int32)).resize((self.width, self.height), Image.Resampling.NEAREST)
        cut = np.asarray(scaled)[self.top : self.top + self.size, self.left : self.left + self.size].astype(np.int64)
        return torch.from_numpy(np.ascontiguousarray(cut[:, ::-1] if self.mirrored else cut))

    def boxes(self, boxes: np.ndarray, min_share: float = 0.0) -> tuple[Tensor, Tensor]:
        """Boxes `(n, 4)`, fractions of the image, as fractions of the square, clipped to it.

        Args:
            min_share: boxes with less than this share of their area inside are dropped; 0 drops only boxes that are completely
                outside, as in the data code of taming-transformers.

        Returns:
            float32 `(m, 4)` and the int64 indices `(m,)` of the remaining boxes.
        """
        scale = np.array([self.width, self.height] * 2, dtype=np.float64) / self.size
        moved = boxes.astype(np.float64).reshape(-1, 4) * scale - np.array([self.left, self.top] * 2) / self.size
        if self.mirrored:
            moved = np.stack([1 - moved[:, 2], moved[:, 1], 1 - moved[:, 0], moved[:, 3]], 1)
        inside = moved.clip(0, 1)
        area = _area(inside)
        kept = np.flatnonzero((area > 0) & (area >= min_share * _area(moved)))
        return torch.from_numpy(inside[kept].astype(np.float32)), torch.from_numpy(kept)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def view(
    picture: tuple[int, int], resize: int, size: int, crop: Crop, random: tuple[float, float] = (0.5, 0.5), mirrored: bool = False
) -> View:
    """Scale the shorter side to `resize`, then cut a square of `size`.

    Args:
        picture: width and height.
        random: position of a random crop as shares of the margin, x and y.

    Raises:
        UnreadableImage: an image that is too small or too elongated.
    """
    short, long = min(picture), max(picture)
    shown = f"{picture[0]}x{picture[1]} pixels"
    if short * MAX_ENLARGEMENT < resize:
        raise UnreadableImage(f"only {shown}, would be enlarged more than {MAX_ENLARGEMENT} times to {resize}")
    if long > MAX_ASPECT_RATIO * short:
        raise UnreadableImage(f"{shown}: more than {MAX_ASPECT_RATIO} times as long as wide")
    scale = resize / short
    width, height = (max(size, round(side * scale)) for side in picture)
    if crop == "center":
        return View(width, height, middle(width, size), middle(height, size), size, mirrored)
    return View(width, height, round(random[0] * (width - size)), round(random[1] * (height - size)), size, mirrored)


def zoomed(picture: tuple[int, int], size: int, share: float, random: tuple[float, float], mirrored: bool = False) -> View:
    """Cut a square of `share` of the shorter side and scale it to `size`: the crop of the original's ImageNetSR.

    Args:
        picture: width and height.
        random: position as shares of the margin, x and y.

    Raises:
        UnreadableImage: a square that would be enlarged more than four times.
    """
    side = int(min(picture) * share)
    if side * MAX_ENLARGEMENT < size:
        shown = f"{picture[0]}x{picture[1]} pixels"
        raise UnreadableImage(f"a square of {side} of its {shown} would be enlarged more than {MAX_ENLARGEMENT} times to {size}")
    left, top = (round(share * (length - side)) for share, length in zip(random, picture, strict=True))
    return View(*picture, left, top, size, mirrored, side)


def middle(side: int, size: int) -> int:
    """Start of a centre crop; of an odd margin, the larger half is after it."""
    return (side - size) // 2
