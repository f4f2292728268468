"""Pictures side by side in one."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ldm.data.images import to_image
from ldm.system.files import save_png

NARROWEST = 96  # pixels of an image with a name
GAP, LINE = 2, 14  # pixels between images, and of a line of text


def grid_of(images: Tensor, columns: int = 8) -> Image.Image:
    """Images `(B, C, H, W)` in [-1, 1] as one picture, `columns` in a row."""
    from torchvision.utils import make_grid  # here, for it imports all of torchvision

    return to_image(make_grid(images.float().cpu().clamp(-1, 1), nrow=columns, padding=2, pad_value=1.0))


def named_grid(images: Tensor, names: Sequence[str], columns: int = 8) -> Image.Image:
    """`grid_of` with a name below each image; small images are enlarged, with sharp pixels, until short names fit."""
    times = max(1, -(-NARROWEST // images.shape[3]))
    height, width = images.shape[2] * times, images.shape[3] * times
    rows = -(-len(images) // columns)
    drawn = Image.new("RGB", (min(columns, len(images)) * (width + GAP) + GAP, rows * (height + LINE + GAP) + GAP), "white")
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(11)
    for i, (image, name) in enumerate(zip(images, names, strict=True)):
        x, y = GAP + i % columns * (width + GAP), GAP + i // columns * (height + LINE + GAP)
        drawn.paste(to_image(image.float().cpu().clamp(-1, 1)).convert("RGB").resize((width, height), Image.Resampling.NEAREST), (x, y))
        pen.text((x, y + height), shortened(name, font, width), fill="black", font=font)
    return drawn


def shortened(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: float) -> str:
    """The beginning of a text that is at most `width` pixels wide, with "..." if there was more."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def save_grid(images: Tensor, path: Path, columns: int = 8, names: Sequence[str] = ()) -> None:
    """`grid_of` as a PNG, or `named_grid` with names, written atomically."""
    save_png(path, named_grid(images, names, columns) if any(names) else grid_of(images, columns))
