"""Fonts for text in pictures, by its characters."""

import unicodedata
from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageFont, features

SIZE = 11
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def legible(text: str, instead: str) -> tuple[str, Font]:
    """The text with a font that has its characters; the ASCII text `instead` where this machine has none."""
    font = font_of(text)
    return (instead, ImageFont.load_default(SIZE)) if font is None else (text, font)


@lru_cache(1000)
def font_of(text: str) -> Font | None:
    """The first font with all characters of a text: Pillow's, matplotlib's, then those of the system; None without one.

    Scripts whose letters are joined, stacked or written from right to left also need Pillow's layout library Raqm.
    """
    if text.isascii():
        return ImageFont.load_default(SIZE)
    if any(unicodedata.bidirectional(c) in ("R", "AL") or unicodedata.combining(c) or unicodedata.category(c) == "Mc" for c in text) and (
        not features.check("raqm")
    ):
        return None
    needed = {ord(c) for c in text if not c.isspace()}
    for path in font_files():
        if needed <= characters(path):
            return ImageFont.truetype(path, SIZE)
    return None


@cache
def font_files() -> list[str]:
    """matplotlib's own font and those of the system, upright ones of medium weight first."""
    import matplotlib
    from matplotlib.font_manager import findSystemFonts

    def special(path: str) -> bool:
        return any(
            word in Path(path).stem.lower() for word in ("bold", "italic", "oblique", "light", "thin", "black", "condensed", "narrow")
        )

    system = [path for path in findSystemFonts() if "lastresort" not in path.lower()]  # it has a box for every character
    return [
        str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")),
        *sorted(system, key=lambda path: (special(path), path)),
    ]


@cache
def characters(path: str) -> frozenset[int]:
    """Code points of a font; empty if it cannot be drawn at `SIZE`, as bitmap fonts of emoji."""
    from matplotlib.ft2font import FT2Font

    try:
        ImageFont.truetype(path, SIZE)
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
