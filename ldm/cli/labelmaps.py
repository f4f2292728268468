"""Label maps: PNGs of class indices, read and shown in colours."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ldm.cli.asked import Asked
from ldm.cli.pictures import palette
from ldm.errors import MissingFile, UserError

UNLABELLED = 255


def read_label_map(path: str, classes: int) -> np.ndarray:
    """`(H, W)` int64 of class indices from an 8-bit, 16-bit or palette PNG; 255 is unlabelled.

    Raises:
        MissingFile: nothing there.
        UserError: no such picture, or an index beyond the classes.
    """
    if not Path(path).is_file():
        raise MissingFile(f"{path}: no such label map")
    try:
        with Image.open(path) as opened:
            opened.load()
            mode, array = opened.mode, np.asarray(opened)
    except Exception as error:  # Pillow's plugins raise many kinds; each means that this file cannot be read
        raise UserError(f"{path}: cannot be read ({error})") from error
    if mode not in ("1", "L", "P", "I") and not mode.startswith("I;16"):
        raise UserError(f"{path}: a {mode} picture; a label map is an 8-bit, 16-bit or palette PNG of class indices")
    labels = array.astype(np.int64)
    wrong = np.unique(labels[(labels != UNLABELLED) & ((labels < 0) | (labels >= classes))])
    if len(wrong):
        raise UserError(f"{path}: label {wrong[0]} is in it; the model has classes 0 to {classes - 1}, and 255 for unlabelled")
    return labels


def asked_map(path: str, classes: int, height: int | None = None, width: int | None = None) -> Asked:
    """A label map as the condition of one image, at its own size or the one asked for (nearest neighbour)."""
    labels = read_label_map(path, classes)
    size = (height or labels.shape[0], width or labels.shape[1])
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int) for new, old in zip(size, labels.shape, strict=True)
    )
    labels = labels[rows][:, columns]
    colours = np.array([*palette(classes), (255, 255, 255)], dtype=np.uint8)
    shown = Image.fromarray(colours[np.where(labels < classes, labels, classes)])
    return Asked({"segmentation": torch.from_numpy(labels)}, {"segmentation": path}, shown)
