"""Recognise and open image files."""

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from ldm.system.terminal import printable

# Formats of Pillow, frequent ones first. Excluded are EPS, for which Pillow starts Ghostscript whatever the suffix, WMF, and formats
# that it recognises but cannot decode (BUFR, GRIB, HDF5, MPEG).
FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "JPEG2000", "PPM", "QOI", "DIB", "ICO", "ICNS", "CUR", "TGA"),
    *("PSD", "PCX", "DCX", "SGI", "SUN", "DDS", "BLP", "FTEX", "FITS", "FLI", "GBR", "IM", "IMT", "MCIDAS", "MSP", "PCD", "PIXAR"),
    *("SPIDER", "XBM", "XPM", "XVTHUMB"),
)
MARKED = FORMATS[:10]  # recognised by their first bytes, without a suffix
WITH_HEIF = (".heic", ".heif", ".hif")
PROPER = re.compile(r"\.[a-z]", re.I)  # a suffix that denotes a format; "photo 2.1" has none


@cache
def formats() -> tuple[str, ...]:
    """Names of the formats that this Pillow reads, including HEIF if the package pillow-heif is installed."""
    Image.init()
    if find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def suffixes() -> frozenset[str]:
    """Suffixes of image files, in lower case, with the dot."""
    known = {*formats(), "MPO"}  # opened as JPEG
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def open_image(file: str | Path | BinaryIO, among: Iterable[str] | None = None) -> Image.Image:
    """Open an image by its content, without decoding its pixels; use it as a context manager.

    Args:
        among: allowed formats; all of `formats()` if None.

    Raises:
        OSError, ValueError, and others of Pillow's plugins: not an image.
    """
    readable = formats()
    try:
        return Image.open(file, formats=readable if among is None else [name for name in among if name in readable])
    except Image.DecompressionBombError as error:  # not an OSError in Pillow, so that most callers would not expect it
        raise OSError(str(error)) from error


def is_picture(path: Path) -> bool:
    """Whether a file is an image by its suffix or, without one, by its first bytes."""
    if PROPER.match(path.suffix):
        return path.suffix.lower() in suffixes()
    try:
        with open_image(path, MARKED):
            return True
    except Exception:  # Pillow's plugins raise many kinds; each means that this is not an image
        return False


def counted(others: Counter[str]) -> str:
    """ "12 .txt, 3 .heic (pip install pillow-heif to read them)": files by suffix, the most frequent first."""
    found = []
    for suffix, count in sorted(others.items(), key=lambda item: (-item[1], item[0])):
        advice = " (pip install pillow-heif to read them)" if suffix in WITH_HEIF else ""
        found.append(f"{count} {printable(suffix) or 'without a suffix'}{advice}")
    return ", ".join(found[:10]) + (f" and {len(found) - 10} other suffixes" if len(found) > 10 else "")
