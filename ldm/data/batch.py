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
    "low_res": "float32 (C, H/4, W/4) in [-1, 1]",
    "id": "str, stable name of the sample",
    "draw": "int, place in the run's order",
    "skipped": "list of 'sample: reason' that this sample stands in for",
}
UNLABELLED = 255  # in label maps
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
    for key in ("segmentation", "box_labels"):
        if key in sample and (not isinstance(sample[key], Tensor) or sample[key].dtype != torch.int64):
            raise ValueError(f"{source}: {key!r} must be {KEYS[key]}")
    for key in ("caption", "id"):
        if key in sample and not isinstance(sample[key], str):
            raise ValueError(f"{source}: {key!r} must be {KEYS[key]}, got {type(sample[key]).__name__}")


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
