"""How well generated scenes answer what was asked of them: boxes against boxes, label maps against label maps.

The answers are told from pixels by `ldm.evaluation.scenes`, which never sees what was asked.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou
from tqdm import tqdm

from ldm.evaluation.scenes import Found, find


def found_boxes(found: Sequence[Found]) -> tuple[Tensor, Tensor]:
    """Boxes `(n, 4)`, xyxy as shares of the image, and classes `(n,)` of the objects that were found."""
    boxes = torch.tensor([thing.box for thing in found], dtype=torch.float32).reshape(-1, 4)
    return boxes, torch.tensor([thing.label for thing in found], dtype=torch.int64)


def layout_iou(boxes: Tensor, labels: Tensor, found: Sequence[Found], by_class: bool = True) -> float:
    """Mean over the asked boxes of the best intersection over union with a found object of the same class, 0 where there is none.

    Args:
        boxes: asked, `(n, 4)` xyxy as shares of the image.
        labels: `(n,)` their classes.
        found: in the generated image.
        by_class: whether the class has to be right too.
    """
    there, kinds = found_boxes(found)
    if not len(there):
        return 0.0
    overlap = box_iou(boxes.float(), there)
    if by_class:
        overlap = overlap * (labels[:, None] == kinds[None])
    return float(overlap.max(dim=1).values.mean())


def found_map(found: Sequence[Found], size: tuple[int, int]) -> Tensor:
    """Label map `(H, W)` of what was found: 0 background, else 1 + class."""
    labels = torch.zeros(size, dtype=torch.int64)
    for thing in found:
        labels[torch.from_numpy(thing.mask)] = 1 + thing.label
    return labels


def pixel_agreement(asked: Tensor, got: Tensor) -> Tensor:
    """Share of equal pixels of label maps `(B, H, W)`, per image `(B,)`."""
    return (asked == got).float().mean((1, 2))


def object_agreement(asked: Tensor, got: Tensor) -> Tensor:
    """Share of equal pixels among those that are an object in either map: `(B,)`, which a background that is right cannot lift."""
    either = (asked > 0) | (got > 0)
    return ((asked == got) & either).sum((1, 2)) / either.sum((1, 2)).clamp(min=1)


def everything_found(images: Tensor) -> list[list[Found]]:
    """The objects of each image of `(B, 3, H, W)` in [-1, 1]."""
    return [find(image) for image in tqdm(images.cpu(), desc="checking", unit="image", disable=None, leave=False)]
