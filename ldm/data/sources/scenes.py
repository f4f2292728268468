"""Procedural scenes: coloured shapes on soft backgrounds, with label, caption, boxes and label map.

An unlimited data set that needs no download, and whose conditions can be verified from pixels (`ldm.evaluation.scenes`).
Scene i of a seed is a function of (seed, split, i).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from ldm.data.batch import Sample
from ldm.errors import UserError
from ldm.ranges import integer, share
from ldm.rng import derive

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {  # hue in turns
    "red": (0.92, 0.12, 0.14),
    "green": (0.10, 0.72, 0.18),
    "blue": (0.14, 0.24, 0.94),
    "yellow": (0.96, 0.88, 0.08),
    "purple": (0.62, 0.12, 0.86),
    "cyan": (0.08, 0.84, 0.90),
}
PLACES = {"left": (0.25, 0.5), "right": (0.75, 0.5), "top": (0.5, 0.25), "bottom": (0.5, 0.75)}  # x, y of the centre
SIZES = {"small": (0.145, 0.175), "large": (0.195, 0.23)}  # half the width, as a share of the image
WORDS = ("a", "and", "at", "on", "the", *SHAPES, *COLOURS, *PLACES, *SIZES)
JITTER = 0.05  # of centres, as a share of the image
CLASSES = tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS)  # by Thing.label
PLACED = tuple(f"{name}, {place}" for name in CLASSES for place in PLACES)  # by Thing.placed_label
Condition = Literal["label", "caption", "boxes", "segmentation"]


@dataclass(frozen=True)
class Thing:
    """One object: indices into SHAPES and COLOURS, place and size by name, centre and half width as image shares."""

    shape: int
    colour: int
    place: str
    size: str
    x: float
    y: float
    radius: float

    @property
    def label(self) -> int:
        """Class of the object: shape and colour."""
        return self.shape * len(COLOURS) + self.colour

    @property
    def placed_label(self) -> int:
        """Class of the object and its place."""
        return self.label * len(PLACES) + list(PLACES).index(self.place)

    @property
    def box(self) -> tuple[float, float, float, float]:
        return (self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius)

    def phrase(self) -> str:
        where = ("on the " if self.place in ("left", "right") else "at the ") + self.place
        return f"a {self.size} {list(COLOURS)[self.colour]} {SHAPES[self.shape]} {where}"


def draw_things(rng: np.random.Generator, count: int) -> list[Thing]:
    """`count` objects at different places that do not touch."""
    while True:
        things = []
        for place in rng.permutation(list(PLACES))[:count]:
            size = str(rng.choice(list(SIZES)))
            x, y = (c + float(rng.uniform(-JITTER, JITTER)) for c in PLACES[place])
            radius = float(rng.uniform(*SIZES[size]))
            things.append(Thing(int(rng.integers(len(SHAPES))), int(rng.integers(len(COLOURS))), str(place), size, x, y, radius))
        if all(_apart(a, b) for i, a in enumerate(things) for b in things[:i]):
            return things


def _apart(a: Thing, b: Thing) -> bool:
    return max(abs(a.x - b.x), abs(a.y - b.y)) > a.radius + b.radius + 0.03


def coverage(thing: Thing, size: int) -> np.ndarray:
    """Share of each pixel that the object covers, `(size, size)` float in [0, 1]; edges fall off over one pixel."""
    axis = (np.arange(size) + 0.5) / size
    u, v = (axis[None, :] - thing.x) / thing.radius, (axis[:, None] - thing.y) / thing.radius
    name = SHAPES[thing.shape]
    if name == "circle":
        inside = 1 - np.sqrt(u**2 + v**2)
    elif name == "square":
        inside = 0.88 - np.maximum(abs(u), abs(v))
    elif name == "triangle":
        inside = np.minimum((0.9 - v), (v + 1.0 - 2.05 * abs(u)) / np.sqrt(1 + 2.05**2))
    else:  # cross
        arm = 0.34
        inside = np.maximum(
            np.minimum(arm - abs(u), 1 - abs(v)) + 0 * v,
            np.minimum(arm - abs(v), 1 - abs(u)) + 0 * u,
        )
    return np.clip(inside * thing.radius * size + 0.5, 0, 1)


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """`(size, size, 3)`, about [0, 1]: a greyish tone, a gradient and soft blotches; from nearly black to nearly white."""
    tone = rng.uniform(0.08, 0.92) + rng.uniform(-0.05, 0.05, 3)
    axis = np.linspace(-1, 1, size)
    angle = rng.uniform(0, 2 * np.pi)
    gradient = rng.uniform(0.0, 0.10) * (np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None])
    coarse = rng.normal(0, 1, (4, 4, 1)) + 0.3 * rng.normal(0, 1, (4, 4, 3))
    weights = _bilinear(4, size)
    blotches = weights @ (weights @ coarse.reshape(4, 12)).reshape(size, 4, 3)
    return tone + gradient[..., None] + rng.uniform(0.0, 0.05) * blotches


@cache
def _bilinear(coarse: int, size: int) -> np.ndarray:
    """`(size, coarse)` interpolation weights."""
    position = np.linspace(0, coarse - 1, size)
    return np.clip(1 - abs(position[:, None] - np.arange(coarse)[None, :]), 0, 1)


def render(things: list[Thing], rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image `(size, size, 3)` uint8, and for each pixel the object it shows, `(size, size)`: 0 background, 1 the first one."""
    image = background(rng, size)
    owner = np.zeros((size, size), dtype=np.int64)
    for number, thing in enumerate(things, 1):
        cover = coverage(thing, size)
        colour = np.array(list(COLOURS.values())[thing.colour]) * rng.uniform(0.85, 1.05) + rng.uniform(-0.03, 0.03, 3)
        image = image + cover[..., None] * (np.clip(colour, 0, 1) - image)
        owner[cover > 0.5] = number
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8), owner


def label_map(things: list[Thing], owner: np.ndarray, classes: Literal["shape", "shape_colour"]) -> np.ndarray:
    """Class of each pixel: 0 background, else 1 + shape (4 shapes) or 1 + label (24 shapes and colours)."""
    own = [1 + (thing.shape if classes == "shape" else thing.label) for thing in things]
    return np.array([0, *own], dtype=np.int64)[owner]


def drawn_box(owner: np.ndarray, number: int) -> tuple[float, float, float, float]:
    """The smallest box around the pixels of an object, whose pixels in `owner` have this number, as fractions."""
    height, width = owner.shape
    rows, columns = np.flatnonzero((owner == number).any(1)), np.flatnonzero((owner == number).any(0))
    if not len(rows):
        raise UserError(f"Scenes: size {width} is too small: an object covers no pixel")
    return columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height


def caption(things: list[Thing]) -> str:
    """ "a small red circle on the left and a large blue square at the top"."""
    return " and ".join(thing.phrase() for thing in things)


class Scenes(Dataset[Sample]):
    """Scenes of one or two objects without occlusion, so that boxes, label map and image are consistent.

    A sample has `image`, `id` and: `label`, the class of the first object (`class_names` has the names); `caption`;
    `boxes` with `box_labels` (0 to 23: shape and colour), in the order of the caption; `segmentation`, the class of each pixel.

    Args:
        length: number of scenes.
        size: side of the square image, in pixels.
        split: "train" and "validation" never share a scene.
        seed: seed of the set.
        two_objects: share of scenes with two objects.
        give: conditions of a sample; all of them if None.
        map_classes: classes of the label map: "shape" (0 background, 1 to 4) or "shape_colour" (0 background, 1 to 24: 1 + label).
        label_classes: classes of the label: "shape_colour" (0 to 23) or "shape_colour_place" (0 to 95).
        boxes: "reach": by centre and half width, slightly larger than a triangle or square; "drawn": the smallest box around the
            object's pixels.

    Raises:
        UserError: an unknown condition, or a size at which an object would cover no pixel.
    """

    def __init__(
        self,
        length: int = 20000,
        size: int = 32,
        split: Literal["train", "validation"] = "train",
        seed: int = 0,
        two_objects: float = 0.5,
        give: Sequence[Condition] | None = None,
        map_classes: Literal["shape", "shape_colour"] = "shape",
        boxes: Literal["reach", "drawn"] = "reach",
        label_classes: Literal["shape_colour", "shape_colour_place"] = "shape_colour",
    ) -> None:
        integer(size=size, length=length)
        integer(0, seed=seed)
        share(two_objects=two_objects)
        self.length, self.size, self.split, self.seed, self.two_objects = length, size, split, seed, two_objects
        known: tuple[Condition, ...] = ("label", "caption", "boxes", "segmentation")
        self.give, self.map_classes, self.boxes = known if give is None else tuple(give), map_classes, boxes
        if unknown := set(self.give) - set(known):
            raise UserError(f"Scenes: cannot give {min(unknown)!r} (known: {', '.join(known)})")
        self.label_classes = label_classes
        labels = PLACED if label_classes == "shape_colour_place" else CLASSES
        names = CLASSES if map_classes == "shape_colour" else SHAPES
        self.class_names = {"label": list(labels), "boxes": list(CLASSES), "segmentation": ["background", *names]}
        self._cache: dict[int, Sample] = {}

    def __len__(self) -> int:
        return self.length

    def scene(self, index: int) -> tuple[list[Thing], np.random.Generator]:
        """The objects of a scene, and the generator to continue drawing it with."""
        rng = np.random.default_rng(derive("scene", self.seed, self.split, index))
        return draw_things(rng, 2 if rng.random() < self.two_objects else 1), rng

    def caption(self, index: int) -> str:
        """The caption of a scene, without rendering it."""
        return caption(self.scene(index)[0])

    def __getitem__(self, index: int) -> Sample:
        if index not in self._cache:
            self._cache[index] = self._make(index)
        return self._cache[index]

    def _make(self, index: int) -> Sample:
        things, rng = self.scene(index)
        image, owner = render(things, rng, self.size)
        sample: Sample = {"image": torch.from_numpy(image).permute(2, 0, 1).float().div(127.5).sub(1)}
        if "caption" in self.give:
            sample["caption"] = caption(things)
        if "label" in self.give:
            sample["label"] = things[0].placed_label if self.label_classes == "shape_colour_place" else things[0].label
        if "boxes" in self.give:
            boxes = [thing.box if self.boxes == "reach" else drawn_box(owner, i) for i, thing in enumerate(things, 1)]
            sample["boxes"] = torch.tensor(boxes, dtype=torch.float32).clamp(0, 1)
            sample["box_labels"] = torch.tensor([thing.label for thing in things], dtype=torch.int64)
        if "segmentation" in self.give:
            sample["segmentation"] = torch.from_numpy(label_map(things, owner, self.map_classes))
        return sample | {"id": f"scene-{self.seed}-{self.split}-{index}"}
