"""Whether sampled scenes show their conditions: boxes and label maps, found again by the scenes' pixel checker.

Only the procedural scenes have a checker; photographs would need a detector of their own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.data.maps import read_map
from ldm.data.sources.scenes import CLASSES
from ldm.data.transforms import UnreadableImage
from ldm.errors import UserError
from ldm.evaluation.agreement import found_map, layout_iou, object_agreement, pixel_agreement
from ldm.evaluation.distances import Value
from ldm.evaluation.scan import Scan
from ldm.evaluation.scenes import Found, find

CHECKER = "scenes' pixel checker"


def layout_agreement(samples: Scan) -> list[tuple[str, Value]]:
    """Mean overlap of the asked boxes with found objects of their class.

    Raises:
        UserError: a sample that does not say which boxes were asked.
    """
    values = []
    for i in range(len(samples)):
        boxes = told(samples, i, "boxes", list)
        corners = torch.tensor([box["box"] for box in boxes], dtype=torch.float32).reshape(-1, 4)
        labels = torch.tensor([class_of(box, samples.names[i]) for box in boxes], dtype=torch.int64)
        if len(boxes):
            values.append(layout_iou(corners, labels, found_in(samples, i)))
    return [(f"layout IoU ({CHECKER})", mean(torch.tensor(values, dtype=torch.float64)))]


def map_agreement(samples: Scan) -> list[tuple[str, Value]]:
    """Share of pixels whose class is the asked one, over all of them and over those of objects.

    Maps are those of `Scenes(map_classes="shape_colour")`: 0 background, else 1 + shape and colour.

    Raises:
        UserError: a sample that does not say which map was asked, or a map that cannot be read.
    """
    asked, got = [], []
    for i in range(len(samples)):
        path = Path(told(samples, i, "segmentation", str))
        try:
            asked.append(torch.from_numpy(read_map(path, samples.size)))
        except UnreadableImage as error:
            raise UserError(f"{samples.names[i]} was asked for {path}: {error}") from error
        got.append(found_map(found_in(samples, i), samples.size[::-1]))
    both = torch.stack(asked), torch.stack(got)
    return [
        (f"label map, pixels ({CHECKER})", mean(pixel_agreement(*both).double())),
        (f"label map, pixels of objects ({CHECKER})", mean(object_agreement(*both).double())),
    ]


def told(samples: Scan, i: int, key: str, kind: type) -> Any:
    """What a sample says it was asked.

    Raises:
        UserError: nothing of the kind.
    """
    value = (samples.settings[i] or {}).get(key)
    if not isinstance(value, kind):
        raise UserError(f"{samples.names[i]} does not say which {key} it was asked to show")
    return value


def class_of(box: Mapping[str, Any], name: str) -> int:
    """Number of an asked class, which may be given by name.

    Raises:
        UserError: none of the scenes' classes.
    """
    label = box["label"]
    number = CLASSES.index(label) if label in CLASSES else label
    if not isinstance(number, int) or not 0 <= number < len(CLASSES):
        raise UserError(f"{name}: class {label!r} is none of the demo scenes'; there is no checker for others")
    return number


def found_in(samples: Scan, i: int) -> list[Found]:
    """The objects that the checker finds."""
    return find(samples.batch([i])[0].float() / 127.5 - 1)


def mean(values: Tensor) -> Value:
    """Of one number per image, with its standard error.

    Raises:
        UserError: no numbers.
    """
    if not len(values):
        raise UserError("no sample has a condition that can be checked")
    spread = float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
    return Value(float(values.mean()), spread, "standard error over images")
