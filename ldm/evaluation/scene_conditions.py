"""Whether sampled scenes show their boxes and label maps: the conditions are compared with the objects that the pixel checker finds.

Only the procedural scenes have a checker; photographs would need a detector.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from ldm.data.maps import read_map
from ldm.data.sources.scenes import CLASSES
from ldm.data.transforms import UnreadableImage
from ldm.errors import UserError
from ldm.evaluation.distances import Value, mean_of
from ldm.evaluation.scan import Scan
from ldm.evaluation.scenes import Found, find

CHECKER = "scenes' pixel checker"


def layout_iou(boxes: Tensor, labels: Tensor, found: Sequence[Found], by_class: bool = True) -> float:
    """Mean over the requested boxes of the best intersection over union with a found object of the same class, 0 without one.

    Args:
        boxes: requested, `(n, 4)` xyxy as shares of the image.
        labels: `(n,)` their classes.
        found: in the generated image.
        by_class: whether the class has to be right too.
    """
    if not found:
        return 0.0
    overlap = box_iou(boxes.float(), torch.tensor([thing.box for thing in found]))
    if by_class:
        overlap = overlap * (labels[:, None] == torch.tensor([thing.label for thing in found]))
    return float(overlap.max(dim=1).values.mean())


def found_map(found: Sequence[Found], size: tuple[int, int]) -> Tensor:
    """Label map `(H, W)` of the found objects: 0 background, else 1 + class."""
    labels = torch.zeros(size, dtype=torch.int64)
    for thing in found:
        labels[torch.from_numpy(thing.mask)] = 1 + thing.label
    return labels


def pixel_agreement(requested: Tensor, found: Tensor) -> Tensor:
    """Share of equal pixels of label maps `(B, H, W)`, per image `(B,)`."""
    return (requested == found).float().mean((1, 2))


def object_agreement(requested: Tensor, found: Tensor) -> Tensor:
    """Share of equal pixels among those that are an object in either map, per image `(B,)`: the background does not raise it."""
    either = (requested > 0) | (found > 0)
    return ((requested == found) & either).sum((1, 2)) / either.sum((1, 2)).clamp(min=1)


def layout_agreement(samples: Scan) -> list[tuple[str, Value]]:
    """Mean overlap of the requested boxes with found objects of their class.

    Raises:
        UserError: a sample without stored boxes.
    """
    values = []
    for i in range(len(samples)):
        if boxes := requested(samples, i, "boxes", list):
            labels = torch.tensor([class_of(box, samples.names[i]) for box in boxes])
            values.append(layout_iou(torch.tensor([box["box"] for box in boxes]), labels, found_in(samples, i)))
    return [(f"layout IoU ({CHECKER})", mean_over_images(torch.tensor(values, dtype=torch.float64)))]


def map_agreement(samples: Scan) -> list[tuple[str, Value]]:
    """Share of pixels whose class is the requested one, over all of them and over those of objects.

    Maps are those of `Scenes(map_classes="shape_colour")`: 0 background, else 1 + shape and colour.

    Raises:
        UserError: a sample without a stored map, or a map that cannot be read.
    """
    maps, found = [], []
    for i in range(len(samples)):
        path = Path(requested(samples, i, "segmentation", str))
        try:
            maps.append(torch.from_numpy(read_map(path, samples.size)))
        except UnreadableImage as error:
            raise UserError(f"{samples.names[i]} was sampled from {path}: {error}") from error
        found.append(found_map(found_in(samples, i), samples.size[::-1]))
    both = torch.stack(maps), torch.stack(found)
    return [
        (f"label map, pixels ({CHECKER})", mean_over_images(pixel_agreement(*both).double())),
        (f"label map, pixels of objects ({CHECKER})", mean_over_images(object_agreement(*both).double())),
    ]


def requested(samples: Scan, i: int, key: str, kind: type) -> Any:
    """A condition that is stored with a sample.

    Raises:
        UserError: it is missing.
    """
    value = (samples.settings[i] or {}).get(key)
    if not isinstance(value, kind):
        raise UserError(f"{samples.names[i]}: no {key} is stored in this sample")
    return value


def class_of(box: Mapping[str, Any], name: str) -> int:
    """Number of a box's class, which may be given by name.

    Raises:
        UserError: not a class of the scenes.
    """
    label = box["label"]
    number = CLASSES.index(label) if label in CLASSES else label
    if not isinstance(number, int) or not 0 <= number < len(CLASSES):
        raise UserError(f"{name}: class {label!r} is not one of the demo scenes'; there is no checker for others")
    return number


def found_in(samples: Scan, i: int) -> list[Found]:
    """The objects that the checker finds in a sample."""
    return find(samples.batch([i])[0].float() / 127.5 - 1)


def mean_over_images(values: Tensor) -> Value:
    """Mean of one number per image, with its standard error.

    Raises:
        UserError: no numbers.
    """
    if not len(values):
        raise UserError("no sample has a condition that can be checked")
    return mean_of(values, standard_error=True)
