"""What is in a scene, told from pixels alone. Written against real scenes; it never sees a caption or a model.

Saturated pixels form the objects; connected components separate them; the nearest palette hue names the colour, the best
fitting template the shape, the centroid the place.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from ldm.data.sources.scenes import COLOURS, PLACES, SHAPES, Thing, coverage
from ldm.errors import UserError


@dataclass(frozen=True)
class Found:
    """One object as the checker sees it; `fit` is the overlap with the best template, 0 to 1.

    `box` is the smallest around its pixels, xyxy as shares of the image; `mask` has its pixels, `(H, W)` bool.
    """

    shape: str
    colour: str
    place: str
    box: tuple[float, float, float, float]
    fit: float
    mask: np.ndarray = field(compare=False, repr=False)

    @property
    def label(self) -> int:
        """Class of the object: shape and colour, as `Scenes` counts them."""
        return SHAPES.index(self.shape) * len(COLOURS) + list(COLOURS).index(self.colour)


@dataclass(frozen=True)
class SceneObject:
    """One object of a caption."""

    shape: str
    colour: str
    place: str


def parse(caption: str) -> list[SceneObject]:
    """The objects a caption of the scenes' grammar asks for.

    Raises:
        ValueError: a caption of another grammar.
    """
    asked = []
    for part in re.split(r"\band\b", caption.lower()):
        words = re.findall(r"\w+", part)
        hits = [[w for w in words if w in names] for names in (SHAPES, COLOURS, PLACES)]
        if any(len(hit) != 1 for hit in hits):
            raise ValueError(f"not a caption of the scenes' grammar: {caption!r}")
        asked.append(SceneObject(*(hit[0] for hit in hits)))
    return asked


def find(image: Tensor, min_share: float = 0.012, min_fit: float = 0.6) -> list[Found]:
    """Objects in one image `(3, S, S)` in [-1, 1]; components that are too small or fit no template are left out.

    Raises:
        UserError: an image that is not square, as all scenes are.
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
    """Distance of directions once the grey part is taken out."""
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


@dataclass(frozen=True)
class Verdict:
    """How one image answers one caption; each field is true when it holds for every asked object."""

    shape: bool
    colour: bool
    place: bool
    all: bool


def judge(image: Tensor, caption: str) -> Verdict:
    """Compare an image `(3, H, W)` in [-1, 1] with a caption.

    Every asked object is matched with the found object at its place. All is right when each match agrees in shape and
    colour and nothing else is in the picture.
    """
    asked, found = parse(caption), find(image)
    at = {place: [thing for thing in found if thing.place == place] for place in PLACES}
    matches = [at[want.place][0] if len(at[want.place]) == 1 else None for want in asked]
    place = all(match is not None for match in matches) and len(found) == len(asked)
    shape = sorted(w.shape for w in asked) == sorted(f.shape for f in found)
    colour = sorted(w.colour for w in asked) == sorted(f.colour for f in found)
    exact = place and all(m and m.shape == w.shape and m.colour == w.colour for m, w in zip(matches, asked, strict=True))
    return Verdict(shape, colour, place, bool(exact))


def share_right(images: Tensor, captions: Sequence[str]) -> dict[str, float]:
    """Shares of images `(N, 3, H, W)` whose caption is met in shape, colour, place and in all three."""
    both = zip(tqdm(images.cpu(), desc="checking", unit="image", disable=None, leave=False), captions, strict=True)
    verdicts = [judge(image, text) for image, text in both]
    table = torch.tensor([[v.shape, v.colour, v.place, v.all] for v in verdicts], dtype=torch.float64)
    return dict(zip(("shape", "colour", "place", "all"), table.mean(dim=0).tolist(), strict=True))
