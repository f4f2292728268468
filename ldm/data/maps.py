"""Label maps and masks: images whose pixels are not colours."""

from pathlib import Path

import numpy as np

from ldm.data.batch import UNLABELLED
from ldm.data.images import read_image
from ldm.data.transforms import UnreadableImage
from ldm.system.image_files import open_image


def read_map(path: Path, size: tuple[int, int], classes: int | None = None) -> np.ndarray:
    """Class indices of an 8 or 16 bit grey or a palette image, `(H, W)` int64; 255 is unlabelled.

    Of a palette image, the indices are used, whatever their colours.

    Args:
        size: required width and height: those of its image, upright.
        classes: number of classes; None disables the check.

    Raises:
        UnreadableImage: no such file, colours instead of indices, another size, or a class out of range.
    """
    labels = _numbers(path, "label map")
    _same_size(labels, path, size, "label map")
    known = labels[labels != UNLABELLED]
    if classes is not None and known.size and int(known.max()) >= classes:
        raise UnreadableImage(f"label map {path.name}: class {int(known.max())}, expected 0 to {classes - 1} (255: unlabelled)")
    return labels


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A mask as int64 `(H, W)`: 1 (to be filled) where the image is at least half as bright as it could be.

    Raises:
        UnreadableImage: no such file, another size, transparent pixels, or a mask that is dark but not black everywhere, such as
            one with values 0 and 1, or 0 and 255 in 16 bit.
    """
    try:
        grey = brightness(path)
        if (brightest := int(grey.max())) < 128:
            with open_image(path) as stored:
                brightest = max(brightest, int(np.asarray(stored).max())) if stored.mode.startswith("I;16") else brightest
            if brightest:
                raise UnreadableImage(f"has values 0 to {brightest}, expected white where something is to be filled")
    except UnreadableImage as error:
        raise UnreadableImage(f"mask {path.name} {error}") from error
    _same_size(grey, path, size, "mask")
    return (grey >= 128).astype(np.int64)


def brightness(path: Path) -> np.ndarray:
    """The pixels of a mask, `(H, W)` uint8.

    Raises:
        UnreadableImage: it cannot be read, or has transparent pixels, whose meaning is ambiguous.
    """
    grey = np.asarray(read_image(path, 1))
    with open_image(path) as stored:
        if stored.has_transparency_data and np.asarray(stored.convert("RGBA"))[..., 3].min() < 255:
            raise UnreadableImage("has transparent pixels; a mask is white where something is to be filled and black elsewhere")
    return grey


def _numbers(path: Path, what: str) -> np.ndarray:
    try:
        with open_image(path) as opened:
            opened.load()
            mode, values = opened.mode, np.asarray(opened)
    except Exception as error:
        raise UnreadableImage(f"{what} {path.name} cannot be read ({error})") from error
    if mode not in ("1", "L", "P", "I") and not mode.startswith("I;16"):
        raise UnreadableImage(f"{what} {path.name} is a {mode} image, expected class indices: 8 or 16 bit grey or palette")
    labels = values.astype(np.int64)
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < 2**16:
        raise UnreadableImage(f"{what} {path.name} has values {labels.min()} to {labels.max()}, expected at most 16 bit")
    return labels


def _same_size(labels: np.ndarray, path: Path, size: tuple[int, int], what: str) -> None:
    if labels.shape != size[::-1]:
        raise UnreadableImage(f"{what} {path.name} is {labels.shape[1]}x{labels.shape[0]}, its picture {size[0]}x{size[1]}")
