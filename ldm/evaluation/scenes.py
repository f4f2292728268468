"""The pixel checker: finds the objects of a scene from its pixels alone, without its caption or a model.

Saturated pixels form the objects; connected components separate them; the nearest palette hue gives the colour, the best
fitting template the shape, the centre of the bounding box the place.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from ldm.data.sources.scenes import COLOURS, PLACES, SHAPES, Thing, coverage
from ldm.errors import UserError


@dataclass(frozen=True)
class Found:
    """One object; `fit` is the overlap with the best template, 0 to 1.

    `box` is the bounding box of its pixels, xyxy as shares of the image; `mask` has its pixels, `(H, W)` bool.
    """

    shape: str
    colour: str
    place: str
    box: tuple[float, float, float, float]
    fit: float
    mask: np.ndarray = field(compare=False, repr=False)

    @property
    def label(self) -> int:
        """Class of the object by shape and colour, as in `Scenes`."""
        return SHAPES.index(self.shape) * len(COLOURS) + list(COLOURS).index(self.colour)


def find(image: Tensor, min_share: float = 0.012, min_fit: float = 0.6) -> list[Found]:
    """Objects in one image `(3, S, S)` in [-1, 1]; components that are too small or fit no template are left out.

    Raises:
        UserError: an image that is not square.
    """
    if image.shape[1] != image.shape[2]:
        raise UserError(f"the scenes' pixel checker reads square images, got {image.shape[2]}x{image.shape[1]}")
    pixels = ((image.float().clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy().astype(np.float64)
    size = pixels.shape[0]
    chroma = pixels.max(axis=2) - pixels.min(axis=2)
    components, count = ndimage.label(chroma > 0.40)
    found = []
    for number in range(1, count + 1):
        mask = components == number
        if mask.mean() < min_share:
            continue
        candidate = _describe(mask, pixels, size)
        if candidate.fit >= min_fit:
            found.append(candidate)
    return found


def find_all(images: Tensor) -> list[list[Found]]:
    """The objects of each image of `(B, 3, H, W)` in [-1, 1]."""
    return [find(image) for image in tqdm(images.cpu(), desc="checking", unit="image", disable=None, leave=False)]


def _describe(mask: np.ndarray, pixels: np.ndarray, size: int) -> Found:
    core = ndimage.binary_erosion(mask) if ndimage.binary_erosion(mask).sum() >= 4 else mask
    colour = np.median(pixels[core], axis=0)
    name = min(COLOURS, key=lambda key: _hue_distance(colour, np.array(COLOURS[key])))
    rows, columns = np.nonzero(mask)
    x0, x1, y0, y1 = (float(v / size) for v in (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1))
    x, y, radius = (x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0) / 2
    shape, fit = max(((s, _best_fit(i, mask, x, y, radius, size)) for i, s in enumerate(SHAPES)), key=lambda pair: pair[1])
    place = min(PLACES, key=lambda key: (PLACES[key][0] - x) ** 2 + (PLACES[key][1] - y) ** 2)
    return Found(shape, name, place, (x0, y0, x1, y1), fit, mask)


def _hue_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine distance of colours without their grey part."""
    a, b = a - a.mean(), b - b.mean()
    return 1 - float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))


def _best_fit(shape: int, mask: np.ndarray, x: float, y: float, radius: float, size: int) -> float:
    """Highest intersection over union with the template, over a few sizes and shifts around the bounding box."""
    best = 0.0
    for grow in (0.92, 1.0, 1.08, 1.16):
        for dy in (-0.75, 0.0, 0.75):
            thing = Thing(shape, 0, "left", "small", x, y + dy / size, radius * grow)
            template = coverage(thing, size) > 0.5
            union = (mask | template).sum()
            best = max(best, float((mask & template).sum() / union) if union else 0.0)
    return best
