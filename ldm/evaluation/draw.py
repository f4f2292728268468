"""Samples as pictures, with their boxes, masks, label maps, classes and captions."""

import colorsys
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ldm.data.batch import UNLABELLED, Sample
from ldm.data.fonts import Font, legible
from ldm.data.images import to_image, visible

ClassNames = Mapping[str, Sequence[str]]  # of classes, by "label", "boxes" and "segmentation"
LINE = 14  # height of a line of text


def colour(index: int) -> tuple[int, int, int]:
    """The colour of a class; consecutive numbers have different ones."""
    r, g, b = colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.75 - 0.25 * (index // 7 % 2), 1.0)
    return round(r * 255), round(g * 255), round(b * 255)


def class_name(names: ClassNames, key: str, index: int) -> str:
    """The name of a class if it is known, else its number."""
    known = names.get(key, ())
    return known[index] if 0 <= index < len(known) else str(index)


def panel(image: Tensor, side: int) -> Image.Image:
    """An image whose longer side is resized to `side` pixels; a smaller one keeps sharp pixels."""
    picture = to_image(visible(image)).convert("RGB")
    return picture.resize(_fitted(picture, side), Image.Resampling.NEAREST if max(picture.size) <= side else Image.Resampling.LANCZOS)


def _fitted(picture: Image.Image, side: int) -> tuple[int, int]:
    """Width and height with a longer side of `side` pixels."""
    width, height = (max(1, round(length * side / max(picture.size))) for length in picture.size)
    return width, height


def draw_boxes(picture: Image.Image, boxes: Tensor, labels: Tensor, names: ClassNames) -> Image.Image:
    """Boxes `(n, 4)` (fractions) with the names of their classes."""
    drawn = picture.copy()
    pen = ImageDraw.Draw(drawn)
    for (x0, y0, x1, y1), label in zip(boxes.tolist(), labels.tolist(), strict=True):
        corners = (x0 * picture.width, y0 * picture.height, x1 * picture.width - 1, y1 * picture.height - 1)
        pen.rectangle((*corners[:2], max(corners[0], corners[2]), max(corners[1], corners[3])), outline=colour(label), width=2)
        at, (name, font) = (corners[0] + 3, max(0.0, corners[1]) + 2), legible(class_name(names, "boxes", label), str(label))
        pen.rectangle(pen.textbbox(at, name, font=font), fill=(0, 0, 0))
        pen.text(at, name, fill=(255, 255, 255), font=font)
    return drawn


def draw_map(labels: Tensor, side: int | None = None) -> Image.Image:
    """A label map `(H, W)` in one colour per class, at its own size or with a longer side of `side` pixels; unlabelled is black."""
    table = np.array([colour(i) for i in range(max(UNLABELLED, int(labels.max())) + 1)], dtype=np.uint8)
    table[UNLABELLED] = 0
    drawn = Image.fromarray(table[labels.numpy()])
    return drawn if side is None else drawn.resize(_fitted(drawn, side), Image.Resampling.NEAREST)


def tint(image: Tensor, mask: Tensor) -> Tensor:
    """The image, reddened where the mask is 1."""
    red = torch.tensor([1.0, -0.6, -0.6])[:, None, None]
    shown = visible(image).expand(3, -1, -1)
    return torch.where(mask > 0.5, 0.5 * shown + 0.5 * red, shown)


def panels(sample: Sample, names: ClassNames, side: int) -> list[Image.Image]:
    """The image with its boxes and mask, then label map, masked image and low resolution beside it."""
    image = sample["image"]
    first = panel(tint(image, sample["mask"]) if "mask" in sample else image, side)
    if "boxes" in sample:
        first = draw_boxes(first, sample["boxes"], sample["box_labels"], names)
    beside = [draw_map(sample["segmentation"], side)] if "segmentation" in sample else []
    return [first, *beside, *(panel(sample[key], side) for key in ("masked_image", "low_res") if key in sample)]


def lines(text: str, instead: str, width: int, most: int) -> list[tuple[str, Font]]:
    """A text in at most `most` lines of `width` pixels, each with its font; `instead` where no font has its characters."""
    text, font = legible(text, instead)
    per_line = int(width * len(text) / max(1.0, font.getlength(text)))
    return [(line, font) for line in textwrap.wrap(text, max(1, per_line))[:most]]


def card(sample: Sample, names: ClassNames, side: int) -> Image.Image:
    """A sample's panels, with its class, caption and id below."""
    parts = panels(sample, names, side)
    width, height = sum(part.width for part in parts), max(part.height for part in parts)
    label = sample.get("label")
    text = [] if label is None else lines(class_name(names, "label", label), str(label), width, 2)
    text += lines(sample.get("caption", ""), "(no font here has the caption's characters)", width, 4)
    grey = lines(sample["id"], "", width, 1)
    drawn = Image.new("RGB", (width, height + LINE * len(text + grey) + 4), "white")
    for i, part in enumerate(parts):
        drawn.paste(part, (sum(one.width for one in parts[:i]), 0))
    pen = ImageDraw.Draw(drawn)
    for i, (line, font) in enumerate(text + grey):
        pen.text((2, height + i * LINE), line, fill=(0, 0, 0) if i < len(text) else (120, 120, 120), font=font)
    return drawn


def sheet(samples: Sequence[Sample], names: ClassNames, columns: int = 4, side: int = 256) -> Image.Image:
    """Cards of several samples in rows."""
    cards = [card(sample, names, side) for sample in samples]
    rows = [cards[i : i + columns] for i in range(0, len(cards), columns)]
    width = max(sum(one.width + 8 for one in row) for row in rows)
    drawn = Image.new("RGB", (width, sum(max(one.height for one in row) + 8 for row in rows)), "white")
    y = 0
    for row in rows:
        x = 0
        for one in row:
            drawn.paste(one, (x, y))
            x += one.width + 8
        y += max(one.height for one in row) + 8
    return drawn
