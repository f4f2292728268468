"""Images stored as arrays: .npy, .npz and .tif with any number of channels."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from ldm.data.transforms import UnreadableImage
from ldm.system.image_files import open_image

ARRAYS = {".npy", ".npz"}
TIFFS = {".tif", ".tiff"}


def is_array(path: Path, channels: int, values: tuple[float, float] | None = None) -> bool:
    """Whether a file is read as an array: a .tif is unless its channels and values are those of a photograph."""
    suffix = path.suffix.lower()
    return suffix in ARRAYS or (suffix in TIFFS and (channels not in (1, 3) or values is not None))


def read_array(path: Path, channels: int, values: tuple[float, float] | None = None) -> np.ndarray | Image.Image:
    """An image with `channels` channels, first or last (a leading axis of 1 is dropped, as in CelebA-HQ's files).

    Args:
        values: values that are mapped to -1 and 1; if None, the range of an 8- or 16-bit integer type, and [-1, 1] for floats.
            Longer integers are refused without it, because their range is unknown.

    Returns:
        `(H, W, channels)` float32 in [-1, 1]; or an 8-bit image, which is processed like a photograph.

    Raises:
        UnreadableImage: damaged, another number of channels, not numbers, or out of range.
    """
    array = _channels_last(_stored(path, channels), channels)
    if array.dtype == np.uint8 and values is None and channels in (1, 3):
        return Image.fromarray(np.ascontiguousarray(array[..., 0] if channels == 1 else array))
    if array.dtype.kind not in "uif" and array.dtype != bool:
        raise UnreadableImage(f"an array of {array.dtype}, expected numbers")
    if array.dtype.kind in "ui" and array.dtype.itemsize > 2 and values is None:
        raise UnreadableImage(f"an array of {array.dtype}, whose range is not known: set values: [low, high]")
    low, high = values or ((np.iinfo(array.dtype).min, np.iinfo(array.dtype).max) if array.dtype.kind in "ui" else (-1.0, 1.0))
    found = (float(array.min()), float(array.max()))
    if not (low - 1e-4 * (high - low) <= found[0] and found[1] <= high + 1e-4 * (high - low)):  # catches NaN too
        raise UnreadableImage(f"values from {found[0]:g} to {found[1]:g}, outside {low:g} to {high:g}: set values: [low, high]")
    return ((array.astype(np.float32) - low) / (high - low) * 2 - 1).clip(-1, 1).astype(np.float32)


def _stored(path: Path, channels: int) -> np.ndarray:
    try:
        if path.suffix.lower() in TIFFS:
            return _tiff(path, channels)
        loaded = np.load(path, allow_pickle=False)
        if path.suffix.lower() == ".npy":
            return np.asarray(loaded)
        with loaded:
            names = loaded.files
            if len(names) != 1 and "image" not in names:
                raise UnreadableImage(f"contains the arrays {', '.join(names) or 'none'}: expected one, or one named image")
            return np.asarray(loaded["image" if "image" in names else names[0]])
    except UnreadableImage:
        raise
    except Exception as error:  # truncated files fail in many ways
        raise UnreadableImage(f"cannot be read ({error})") from error


def _tiff(path: Path, channels: int) -> np.ndarray:
    """One page per channel with Pillow; several channels per page with tifffile, if installed."""
    try:
        with open_image(path, ["TIFF"]) as opened:
            pages = [np.asarray(page).copy() for page in ImageSequence.Iterator(opened)]
        if len(pages) == channels and all(page.ndim == 2 for page in pages):
            return np.stack(pages)
        if len(pages) == 1 and pages[0].ndim == 3:
            return pages[0]
    except Exception:  # unknown to Pillow
        pages = []
    try:
        import tifffile
    except ImportError:
        found = f"{len(pages)} pages" if pages else "several channels in one page"
        raise UnreadableImage(f"{found}: expected a page per channel, or the package tifffile (or .npy files)") from None
    return np.asarray(tifffile.imread(path))


def _channels_last(array: np.ndarray, channels: int) -> np.ndarray:
    shape = array.shape
    if array.ndim == 4 and shape[0] == 1:
        array = array[0]
    if array.ndim == 2 and channels == 1:
        array = array[..., None]
    if array.ndim != 3 or channels not in (array.shape[0], array.shape[2]) or not array.size:
        raise UnreadableImage(f"an array of shape {shape}, expected {channels} channels first or last")
    return array if array.shape[2] == channels else np.moveaxis(array, 0, 2)
