"""Masks for inpainting: strokes and boxes as in LaMa's generator (Suvorov et al., 2022; Sec. 4.5 and E.2.2 of the LDM paper).

A stroke is a chain of one to five straight pieces, each with its own width, length and direction, that starts anywhere in the image
and stops at its border. A mask has either strokes or boxes. As in the published generator, there are four fixed directions (0.01,
1.01, 2.01 and 3.01 radians from the vertical), mirrored for every other stroke; unlike there, positions and sizes are not rounded.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ldm.ranges import integer
from ldm.rng import as_numpy

Kind = Literal["thin", "medium", "thick", "training", "mixed", "box", "half"]
MIN_SIZE = 8  # pixels: a smaller image has no space for a mask and its surroundings
MAX_PIECES = 5  # maximum number of pieces of a stroke
DIRECTIONS = 4
MIN_WIDTH = 1.5  # pixels: a narrower line could pass between the centres of pixels


@dataclass(frozen=True)
class Settings:
    """Parameters of one kind of masks for images of one size; lengths in pixels of that size.

    Args:
        strokes: minimum and maximum number of strokes as published; like the published code, this one draws up to one more.
        width: a piece is 5 to 5 + `width` wide.
        length: a piece is 10 to 10 + `length` long.
        boxes: minimum and maximum number of boxes.
        side: minimum and maximum side of a box.
        margin: distance of boxes from the border of the image.
        box_share: share of the masks with boxes instead of strokes.
        max_area: masks that cover a larger share of the image are drawn again.
    """

    strokes: tuple[int, int]
    width: float
    length: float
    boxes: tuple[int, int] = (0, 0)
    side: tuple[float, float] = (0, 0)
    margin: float = 0
    box_share: float = 0.0
    max_area: float = 0.5


BOTH = 0.3 / 1.3  # weights of 0.3 for boxes and 1 for strokes
# By kind, then by the side in pixels of the images: LaMa's random_{thin,medium,thick}_{256,512}, and the
# masks that LaMa itself is trained with.
SETTINGS: dict[str, dict[int, Settings]] = {
    "thin": {256: Settings((4, 50), 10, 40), 512: Settings((4, 70), 20, 100)},
    "medium": {
        256: Settings((4, 5), 50, 100, (1, 5), (10, 50), 0, BOTH),
        512: Settings((4, 10), 100, 200, (1, 5), (30, 150), 0, BOTH),
    },
    "thick": {
        256: Settings((1, 5), 100, 200, (1, 3), (30, 150), 10, BOTH),
        512: Settings((1, 5), 250, 450, (1, 4), (30, 300), 10, BOTH),
    },
    "training": {256: Settings((1, 5), 100, 200, (1, 4), (30, 150), 10, 0.5, max_area=1.0)},
}
MIXED: tuple[Kind, ...] = ("thin", "medium", "thick")


def mask(kind: Kind, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw a mask for an image of any size.

    The parameters are those of the nearest size that LaMa has (256 or 512, by the shorter side), scaled with the shorter side.

    Share of the image inside the mask, measured over 2000 masks of 256x256 each (the kinds differ in thickness, not in area):

    | kind | mean | range | 5 % to 95 % |
    |---|---|---|---|
    | thin | 0.28 | 0.02 to 0.50 | 0.07 to 0.46 |
    | medium | 0.24 | 0.00 to 0.50 | 0.02 to 0.43 |
    | thick | 0.26 | 0.00 to 0.50 | 0.05 to 0.48 |
    | mixed | 0.26 | 0.00 to 0.50 | 0.04 to 0.46 |
    | training | 0.35 | 0.00 to 0.92 | 0.06 to 0.73 |

    The smallest masks of the last four are one short piece at the border or one small box, 0.002 of the image; none is empty.

    Args:
        kind: "thin", "medium" or "thick" as in LaMa's test sets; "training", what LaMa is trained with (boxes as often as
            strokes, no limit to the area); "mixed", one of the first three with equal chance; for tests "box", a quarter in
            the middle, and "half", the right half.
        size: height and width in pixels, 8 at least.
        generator: source of randomness; advances by one draw.

    Returns:
        `(1, H, W)` float32, 1 inside the mask.

    Raises:
        ValueError: an unknown kind, or an image below 8 pixels.
    """
    height, width = size
    integer(height=height, width=width)
    if min(size) < MIN_SIZE:
        raise ValueError(f"a mask needs an image of at least {MIN_SIZE}x{MIN_SIZE} pixels, got {height}x{width}")
    rng = as_numpy(generator)
    if kind == "mixed":
        kind = MIXED[rng.integers(len(MIXED))]
    drawn = np.zeros(size, dtype=bool)
    if kind == "box":
        drawn[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    elif kind == "half":
        drawn[:, width // 2 :] = True
    elif kind in SETTINGS:
        drawn = draw(kind, size, rng)
    else:
        raise ValueError(f"masks {kind!r} are unknown: expected one of {', '.join((*SETTINGS, 'mixed', 'box', 'half'))}")
    return torch.from_numpy(drawn.astype(np.float32))[None]


def draw(kind: str, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Strokes or boxes with the parameters of a kind: `(H, W)` bool, neither empty nor full, within the limit of its area."""
    reference = min(SETTINGS[kind], key=lambda side: abs(math.log(min(size) / side)))
    settings, scale = SETTINGS[kind][reference], min(size) / reference
    while True:
        mask = np.zeros(size, dtype=bool)
        if rng.random() < settings.box_share:
            add_boxes(mask, settings, scale, rng)
        else:
            for number in range(rng.integers(settings.strokes[0], settings.strokes[1] + 2)):
                for start, end, width in stroke(size, settings, scale, mirrored=number % 2 == 0, rng=rng):
                    add_piece(mask, start, end, max(MIN_WIDTH, width))
        if mask.any() and not mask.all() and mask.mean() <= settings.max_area:
            return mask


def stroke(
    size: tuple[int, int], settings: Settings, scale: float, mirrored: bool, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """The pieces of one stroke: start and end as (y, x), and the width."""
    border = np.array(size, dtype=float)
    point = rng.random(2) * border
    for _ in range(rng.integers(1, MAX_PIECES + 1)):
        angle = (0.01 + rng.integers(DIRECTIONS)) * (-1 if mirrored else 1)
        length, width = scale * (10 + rng.random() * settings.length), scale * (5 + rng.random() * settings.width)
        end = np.clip(point + length * np.array([math.cos(angle), math.sin(angle)]), 0, border)
        yield point, end, width
        point = end


def add_piece(mask: np.ndarray, start: np.ndarray, end: np.ndarray, width: float) -> None:
    """Add to `mask` `(H, W)` every pixel whose centre is within half the width of the line from start to end."""
    low = np.maximum(np.floor(np.minimum(start, end) - width / 2), 0).astype(int)
    high = np.minimum(np.ceil(np.maximum(start, end) + width / 2), mask.shape).astype(int)
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    y, x = (np.arange(a, b) + 0.5 - s for a, b, s in zip(low, high, start, strict=True))
    dy, dx = end - start
    along = np.clip((y[:, None] * dy + x[None] * dx) / max(dy**2 + dx**2, 1e-9), 0, 1)  # foot of the perpendicular
    mask[window] |= (y[:, None] - along * dy) ** 2 + (x[None] - along * dx) ** 2 <= (width / 2) ** 2


def add_boxes(mask: np.ndarray, settings: Settings, scale: float, rng: np.random.Generator) -> None:
    """Add boxes that keep the margin to the border to `mask` `(H, W)`."""
    margin = settings.margin * scale
    shortest, longest = (scale * side for side in settings.side)
    for _ in range(rng.integers(settings.boxes[0], settings.boxes[1] + 1)):
        spans = []
        for extent in mask.shape:
            side = rng.uniform(shortest, max(shortest, min(longest, *(n - 2 * margin for n in mask.shape))))
            first = rng.uniform(margin, extent - margin - side)
            spans.append(slice(round(first), max(round(first) + 1, round(first + side))))
        mask[tuple(spans)] = True
