"""The batch: which keys there are and what each holds. Checked here, once, so that no model needs to."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Batch = dict[str, Any]
Sample = dict[str, Any]

# key -> (what it is, as shown in messages)
KEYS = {
    "image": "float32 (C, H, W) in [-1, 1]",
    "label": "int, a class index",
    "caption": "str",
    "boxes": "float32 (n, 4), xyxy as fractions of width and height",
    "box_labels": "int64 (n,)",
    "segmentation": "int64 (H, W) label map, 255 = unlabelled",
    "mask": "float32 (1, H, W), 1 = to be filled",
    "masked_image": "float32 (C, H, W) in [-1, 1]",
    "embedding": "float32 (N, d) tokens that were computed elsewhere",
    "low_res": "float32 (C, H/f, W/f) in [-1, 1], f usually 4",
    "id": "str, stable name of the sample",
    "draw": "int, place in the run's order",
    "skipped": "list of 'sample: reason' that this sample stands in for",
}
UNLABELLED = 255  # in label maps
MOST_CLASSES = 2**31  # a larger class index is a mistake, and no tensor takes any number
RANGES = {"image": (-1.0, 1.0), "masked_image": (-1.0, 1.0), "low_res": (-1.0, 1.0), "mask": (0.0, 1.0), "boxes": (0.0, 1.0)}
LISTS = ("caption", "id", "boxes", "box_labels", "draw", "skipped")


def check_sample(sample: Sample, source: str) -> None:
    """Hold one sample against the schema.

    Raises:
        ValueError: an unknown or missing key, or a wrong type, shape or range; names the source and the key.
    """
    for key in ("image", "id"):
        if key not in sample:
            raise ValueError(f"{source}: a sample has no {key!r} ({KEYS[key]})")
    for key, value in sample.items():
        if key not in KEYS:
            raise ValueError(f"{source}: unknown key {key!r}; known are {', '.join(KEYS)}")
        if key in RANGES:
            _check_range(value, key, source)
    if "label" in sample and not (isinstance(sample["label"], int) and sample["label"] >= 0):
        raise ValueError(f"{source}: 'label' must be {KEYS['label']}, got {sample['label']!r}")
    height_width = tuple(sample["image"].shape[1:])
    for key in ("mask", "masked_image", "segmentation"):
        if key in sample and tuple(sample[key].shape[-2:]) != height_width:
            raise ValueError(f"{source}: {key!r} is {tuple(sample[key].shape[-2:])}, the image is {height_width}")
    if "low_res" in sample:
        _check_low_res(tuple(sample["low_res"].shape[1:]), height_width, source)
    for key in ("segmentation", "box_labels"):
        if key in sample and (not isinstance(sample[key], Tensor) or sample[key].dtype != torch.int64):
            raise ValueError(f"{source}: {key!r} must be {KEYS[key]}")
    if "boxes" in sample and (sample["boxes"].shape[1] != 4 or len(sample.get("box_labels", ())) != len(sample["boxes"])):
        raise ValueError(f"{source}: 'boxes' must be {KEYS['boxes']}, with as many 'box_labels'")
    for key in ("caption", "id"):
        if key in sample and not isinstance(sample[key], str):
            raise ValueError(f"{source}: {key!r} must be {KEYS[key]}, got {type(sample[key]).__name__}")


def _check_low_res(low: tuple[int, ...], high: tuple[int, ...], source: str) -> None:
    factors = {divmod(many, few) if few else (0, 0) for many, few in zip(high, low, strict=True)}
    if len(factors) > 1 or min(factors)[0] < 2 or max(factors)[1]:
        raise ValueError(f"{source}: 'low_res' is {low}, the image is {high}: expected a whole factor of 2 or more, one for both sides")


def _check_range(value: Any, key: str, source: str) -> None:
    if not isinstance(value, Tensor) or value.dtype != torch.float32 or value.ndim != (2 if key == "boxes" else 3):
        got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{source}: {key!r} must be {KEYS[key]}, got {got}")
    low, high = RANGES[key]
    if value.numel() and not (low - 1e-4 <= float(value.min()) and float(value.max()) <= high + 1e-4):
        raise ValueError(f"{source}: {key!r} must lie in [{low:g}, {high:g}], got [{value.min():.3g}, {value.max():.3g}]")


def collate(samples: Sequence[Mapping[str, Any]]) -> Batch:
    """Stack samples into a batch: tensors `(B, ...)`, labels int64 `(B,)`, everything else lists.

    Raises:
        ValueError: samples with different keys or sizes.
    """
    keys = [key for key in samples[0] if key != "skipped"]
    batch: Batch = {"skipped": [note for sample in samples for note in sample.get("skipped", ())]}
    for key in keys:
        values = [sample.get(key) for sample in samples]
        if any(value is None for value in values):
            raise ValueError(f"sample {samples[[v is None for v in values].index(True)]['id']!r} has no {key!r}, others have")
        if key in LISTS:
            batch[key] = values
        elif key == "label":
            batch[key] = torch.tensor(values, dtype=torch.int64)
        else:
            shapes = {tuple(value.shape) for value in values if value is not None}
            if len(shapes) > 1:
                raise ValueError(f"{key!r} differs in size within a batch: {sorted(shapes)}; set size and crop")
            batch[key] = torch.stack(values)  # type: ignore[arg-type]
    return batch
