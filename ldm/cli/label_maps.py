"""Label maps: PNGs of class indices as conditions."""

from pathlib import Path

import numpy as np
import torch

from ldm.cli.condition_flags import Condition
from ldm.data.maps import read_map
from ldm.errors import MissingFile, UserError
from ldm.evaluation.draw import draw_map
from ldm.system.image_files import open_image


def label_map(path: str, classes: int, height: int | None = None, width: int | None = None) -> Condition:
    """An 8-bit, 16-bit or palette PNG of class indices as the condition of one image; its picture shows it in colours.

    Args:
        path: of the file; 255 is unlabelled.
        classes: number of classes.
        height, width: size to scale it to (nearest neighbour); its own if None.

    Raises:
        MissingFile: no such file.
        UserError: not such a picture, or an index out of range.
    """
    if not Path(path).is_file():
        raise MissingFile(f"{path}: no such label map")
    try:
        with open_image(path) as opened:
            stored = opened.size
        labels = read_map(Path(path), stored, classes)
    except Exception as error:  # Pillow's plugins raise many kinds; each means that this file cannot be used
        raise UserError(f"{path}: {error}") from error
    size = tuple(old if new is None else new for new, old in zip((height, width), labels.shape, strict=True))
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int) for new, old in zip(size, labels.shape, strict=True)
    )
    scaled = torch.from_numpy(labels[rows][:, columns])
    return Condition({"segmentation": scaled}, {"segmentation": path}, draw_map(scaled))
