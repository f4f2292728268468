"""Label maps: PNGs of class indices, at the requested size, and shown in colours."""

from pathlib import Path

import numpy as np
import torch

from ldm.cli.requests import Request
from ldm.data.maps import read_map
from ldm.errors import MissingFile, UserError
from ldm.evaluation.draw import draw_map
from ldm.system.image_files import open_image


def read_label_map(path: str, classes: int) -> np.ndarray:
    """`(H, W)` int64 of class indices from an 8-bit, 16-bit or palette PNG; 255 is unlabelled.

    Raises:
        MissingFile: nothing there.
        UserError: no such picture, or an index beyond the classes.
    """
    if not Path(path).is_file():
        raise MissingFile(f"{path}: no such label map")
    try:
        with open_image(path) as opened:
            size = opened.size
        return read_map(Path(path), size, classes)
    except Exception as error:  # Pillow's plugins raise many kinds; each means that this file cannot be used
        raise UserError(f"{path}: {error}") from error


def asked_map(path: str, classes: int, height: int | None = None, width: int | None = None) -> Request:
    """A label map as the condition of one image, at its own size or the requested one (nearest neighbour).

    Raises:
        MissingFile, UserError: as `read_label_map`, or a size below 1.
    """
    labels = read_label_map(path, classes)
    size = tuple(old if new is None else new for new, old in zip((height, width), labels.shape, strict=True))
    if min(size) < 1:
        raise UserError(f"image size {size[0]}x{size[1]}: expected at least 1")
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int) for new, old in zip(size, labels.shape, strict=True)
    )
    scaled = torch.from_numpy(labels[rows][:, columns])
    return Request({"segmentation": scaled}, {"segmentation": path}, draw_map(scaled))
