"""Pictures side by side in one."""

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ldm.data.fonts import Font, legible
from ldm.data.images import to_image
from ldm.system.files import save_png

NARROWEST = 96  # pixels of an image with a name
GAP, LINE = 2, 14  # pixels between images, and of a line of text
NAMES = "names"  # text chunk of a PNG: JSON list of what its images show, in order


def grid_of(images: Tensor, columns: int = 8) -> Image.Image:
    """Images `(B, C, H, W)` in [-1, 1] as one picture, `columns` in a row."""
    return _placed(images, columns)[0]


def named_grid(images: Tensor, names: Sequence[str], columns: int = 8) -> Image.Image:
    """`grid_of` with a name below each image; small images are enlarged, with sharp pixels, until short names fit.

    A name for which this machine has no font is replaced by the number of the image.
    """
    times = max(1, -(-NARROWEST // images.shape[3]))
    drawn, places = _placed(images, columns, times, LINE)
    pen, width = ImageDraw.Draw(drawn), images.shape[3] * times
    for i, ((x, y), name) in enumerate(zip(places, names, strict=True)):
        text, font = legible(name, f"({i + 1})")
        pen.text((x, y), shortened(text, font, width), fill="black", font=font)
    return drawn


def _placed(images: Tensor, columns: int, times: int = 1, line: int = 0) -> tuple[Image.Image, list[tuple[int, int]]]:
    """Images side by side, enlarged `times`, with space for a line of text below each; and the lower left corners."""
    height, width = images.shape[2] * times, images.shape[3] * times
    rows, columns = -(-len(images) // columns), min(columns, len(images))
    mode = "RGBA" if images.shape[1] == 4 else "RGB"
    drawn = Image.new(mode, (columns * (width + GAP) + GAP, rows * (height + line + GAP) + GAP), "white")
    places = [(GAP + i % columns * (width + GAP), GAP + i // columns * (height + line + GAP)) for i in range(len(images))]
    for image, place in zip(images.float().cpu().clamp(-1, 1), places, strict=True):
        drawn.paste(to_image(image).convert(mode).resize((width, height), Image.Resampling.NEAREST), place)
    return drawn, [(x, y + height) for x, y in places]


def shortened(text: str, font: Font, width: float) -> str:
    """The beginning of a text that is at most `width` pixels wide, with "..." if there was more."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def save_named(path: Path, picture: Image.Image, names: Sequence[str]) -> None:
    """Write a PNG atomically; with names of its images as the text chunk `NAMES`, which pages show below it."""
    info = PngInfo()
    if any(names):
        info.add_text(NAMES, json.dumps(list(names)))
    save_png(path, picture, pnginfo=info)


def save_grid(images: Tensor, path: Path, columns: int = 8, names: Sequence[str] = ()) -> None:
    """`grid_of` as a PNG, or `named_grid` with names, written atomically."""
    save_named(path, named_grid(images, names, columns) if any(names) else grid_of(images, columns), names)
