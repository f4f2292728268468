"""Resize, crop and flip images together with their boxes and label maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ldm.data.resize import resize as resample
from ldm.ranges import integer, integers

Crop = Literal["center", "random"]
Size = int | tuple[int, int]  # side of a square, or height and width, in pixels
MAX_ENLARGEMENT = 4  # maximum factor; smaller images would be blurred
MAX_ASPECT_RATIO = 40  # maximum ratio of sides; longer images would exhaust the memory after scaling


class UnreadableImage(ValueError):
    """An image file that cannot be used; the message says why."""


@dataclass(frozen=True)
class View:
    """A crop at (left, top) of the image scaled to `width` x `height`, optionally flipped.

    Attributes:
        size: height and width of the result.
        region: height and width of the crop, which is scaled to `size`; `size` if None.
    """

    width: int
    height: int
    left: int
    top: int
    size: tuple[int, int]
    mirrored: bool = False
    region: tuple[int, int] | None = None

    def picture(self, image: Image.Image) -> Image.Image:
        """The crop of an image, antialiased bicubic; a larger `region` is reduced by area averaging."""
        scaled, (height, width) = image.resize((self.width, self.height), Image.Resampling.BICUBIC), self.region or self.size
        cut = scaled.crop((self.left, self.top, self.left + width, self.top + height))
        if height > self.size[0]:
            pixels = resample(np.asarray(cut, dtype=np.float32).reshape(height, width, -1), self.size, "area").squeeze()
            cut = Image.fromarray(pixels if cut.mode == "F" else np.round(pixels).astype(np.uint8))
        elif (height, width) != self.size:
            cut = cut.resize(self.size[::-1], Image.Resampling.BICUBIC)
        return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.mirrored else cut

    def array(self, values: np.ndarray) -> np.ndarray:
        """The crop of `(H, W, C)` float32, channel by channel as in `picture`, clipped to the range of `values`."""
        channels = [np.asarray(self.picture(Image.fromarray(np.ascontiguousarray(channel)))) for channel in np.moveaxis(values, 2, 0)]
        return np.stack(channels, 2).clip(values.min(), values.max())

    def labels(self, classes: np.ndarray) -> Tensor:
        """The crop of a label map `(H, W)`, nearest: int64 of `size`."""
        scaled = Image.fromarray(classes.astype(np.int32)).resize((self.width, self.height), Image.Resampling.NEAREST)
        height, width = self.size
        cut = np.asarray(scaled)[self.top : self.top + height, self.left : self.left + width].astype(np.int64)
        return torch.from_numpy(np.ascontiguousarray(cut[:, ::-1] if self.mirrored else cut))

    def boxes(self, boxes: np.ndarray, min_share: float = 0.0) -> tuple[Tensor, Tensor]:
        """Boxes `(n, 4)`, fractions of the image, as fractions of the crop, clipped to it.

        Args:
            min_share: boxes with less than this share of their area inside are dropped; 0 drops only boxes that are completely
                outside, as in the data code of taming-transformers.

        Returns:
            float32 `(m, 4)` and the int64 indices `(m,)` of the remaining boxes.
        """
        crop = np.array([*self.size[::-1]] * 2, dtype=np.float64)
        scale, offset = np.array([self.width, self.height] * 2) / crop, np.array([self.left, self.top] * 2) / crop
        moved = boxes.astype(np.float64).reshape(-1, 4) * scale - offset
        if self.mirrored:
            moved = np.stack([1 - moved[:, 2], moved[:, 1], 1 - moved[:, 0], moved[:, 3]], 1)
        inside = moved.clip(0, 1)
        area = _area(inside)
        kept = np.flatnonzero((area > 0) & (area >= min_share * _area(moved)))
        return torch.from_numpy(inside[kept].astype(np.float32)), torch.from_numpy(kept)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def view(
    picture: tuple[int, int], resize: int, size: Size, crop: Crop, random: tuple[float, float] = (0.5, 0.5), mirrored: bool = False
) -> View:
    """Scale an image, then cut a crop of `size`.

    Args:
        picture: width and height.
        resize: length of the shorter side, after scaling, of the largest crop that has the aspect ratio of `size`; for a square, this is
            the shorter side of the image.
        random: position of a random crop as shares of the margin, x and y.

    Raises:
        UnreadableImage: an image that is too small or too elongated.
    """
    size = pair(size)
    short, long = min(picture), max(picture)
    inside = _largest(picture, size)
    shown = f"{picture[0]}x{picture[1]} pixels"
    if inside * MAX_ENLARGEMENT < resize:
        raise UnreadableImage(f"only {shown}, would be enlarged more than {MAX_ENLARGEMENT} times to {resize}")
    if long > MAX_ASPECT_RATIO * short:
        raise UnreadableImage(f"{shown}: more than {MAX_ASPECT_RATIO} times as long as wide")
    scale = resize / inside
    width, height = (max(least, round(side * scale)) for side, least in zip(picture, size[::-1], strict=True))
    if crop == "center":
        left, top = middle(width, size[1]), middle(height, size[0])
    else:
        left, top = round(random[0] * (width - size[1])), round(random[1] * (height - size[0]))
    return View(width, height, left, top, size, mirrored)


def zoomed(picture: tuple[int, int], size: Size, share: float, random: tuple[float, float], mirrored: bool = False) -> View:
    """Cut a crop of `share` of the largest that has the aspect ratio of `size`, and scale it: the crop of the original's ImageNetSR.

    Args:
        picture: width and height.
        random: position as shares of the margin, x and y.

    Raises:
        UnreadableImage: a crop that would be enlarged more than four times.
    """
    size = pair(size)
    side = int(_largest(picture, size) * share)
    height, width = (round(side * length / min(size)) for length in size)
    if side * MAX_ENLARGEMENT < min(size):
        cut, shown = f"{width}x{height}", f"{picture[0]}x{picture[1]} pixels"
        raise UnreadableImage(f"a crop of {cut} of its {shown} would be enlarged more than {MAX_ENLARGEMENT} times to {size[1]}x{size[0]}")
    left, top = (round(share * (length - part)) for share, length, part in zip(random, picture, (width, height), strict=True))
    return View(*picture, left, top, size, mirrored, (height, width))


def pair(size: Size) -> tuple[int, int]:
    """Height and width.

    Raises:
        ValueError: neither a positive integer nor two.
    """
    if not isinstance(size, Sequence):
        integer(size=size)
        return int(size), int(size)
    integers(size=size)
    if len(size) != 2:
        raise ValueError(f"size must be one integer, or two: height and width; got {list(size)}")
    return int(size[0]), int(size[1])


def middle(side: int, size: int) -> int:
    """Start of a centre crop; of an odd margin, the larger half is after it."""
    return (side - size) // 2


def _largest(picture: tuple[int, int], size: tuple[int, int]) -> float:
    """Shorter side of the largest crop of an image (width, height) that has the aspect ratio of `size` (height, width)."""
    short = min(size)
    return min(side * short / part for side, part in zip(picture, size[::-1], strict=True))
