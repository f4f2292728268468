"""The keys of samples and batches, and their validation, so that models need not check them."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

Batch = dict[str, Any]
Sample = dict[str, Any]

# Keys of the data sets of this project; other keys are numbers, texts or tensors, declared by a conditioner.
KEYS = {
    "image": "float32 (C, H, W) in [-1, 1]",
    "label": "int, a class index",
    "caption": "str",
    "boxes": "float32 (n, 4), xyxy as fractions of width and height",
    "box_labels": "int64 (n,)",
    "segmentation": "int64 (H, W) label map, 255 = unlabelled",
    "mask": "float32 (1, H, W), 1 = to be filled",
    "masked_image": "float32 (C, H, W) in [-1, 1]",
    "embedding": "float32 (N, d) precomputed tokens",
    "low_res": "float32 (C, H/f, W/f) in [-1, 1], f usually 4",
    "id": "str, stable name of the sample",
    "draw": "int, position in the run's order",
    "skipped": "list of 'sample: reason' that this sample replaces",
}
UNLABELLED = 255  # in label maps
MOST_CLASSES = 2**31  # a larger class index is a mistake, and may not fit into a tensor
RANGES = {"image": (-1.0, 1.0), "masked_image": (-1.0, 1.0), "low_res": (-1.0, 1.0), "mask": (0.0, 1.0), "boxes": (0.0, 1.0)}
LISTS = ("caption", "id", "boxes", "box_labels", "draw", "skipped")
KEPT: Final = "as it is"  # null of a key that is kept when the condition is dropped


@dataclass(frozen=True)
class Key:
    """Declaration of a batch key that a model reads, for one sample.

    Attributes:
        dtype: dtype of the tensor, or `str`.
        shape: integers, "C" for the image's channels, "H" and "W" for its size, "h" and "w" for the latent's (also "4h", "0.25w"); "any"
            is any size; "n" is any size that differs between samples, so that a batch has a list of tensors.
        null: value of the null condition: a tensor is filled with it, a text is replaced; with shape "n" it is an empty tensor. KEPT
            keeps the value; None means that there is no null condition.
        low, high: smallest and largest value.
        null_in_data: data may contain `null` outside this range, such as unlabelled pixels of label maps.
    """

    dtype: torch.dtype | type[str] = torch.float32
    shape: tuple[int | str, ...] = ()
    null: float | str | None = None
    low: float | None = None
    high: float | None = None
    null_in_data: bool = False

    @property
    def listed(self) -> bool:
        """Whether a batch has a list of values instead of one tensor."""
        return self.dtype is str or "n" in self.shape

    def dropped(self, values: Any, where: Sequence[bool]) -> Any:
        """Values of a batch, with those marked in `where` replaced by the null value."""
        if self.null == KEPT and self.dtype is not str:
            return values
        if self.dtype is str:
            return [self.null if gone else value for value, gone in zip(values, where, strict=True)]
        if self.listed:
            return [value[:0] if gone else value for value, gone in zip(values, where, strict=True)]
        gone = torch.as_tensor(where, device=values.device).view(-1, *[1] * (values.ndim - 1))
        return torch.where(gone, torch.full_like(values, float(self.null or 0.0)), values)

    def placeholder(self, count: int, sizes: Mapping[str, int]) -> Any:
        """Values for a step without data: `sizes` has "C", "H", "W", "h" and "w"."""
        if not isinstance(self.dtype, torch.dtype):
            return [""] * count
        shape = [entry if isinstance(entry, int) else _size(entry, sizes) for entry in self.shape]
        low, high = self.low if self.low is not None else 0.0, self.high if self.high is not None else 1.0
        value = torch.full(shape, low if self.dtype.is_floating_point else int(low), dtype=self.dtype)
        if self.dtype.is_floating_point and value.numel() > 1:
            value = torch.linspace(low, high, value.numel()).view(shape)
        return [value] * count if self.listed else value.expand(count, *shape).clone()

    def problems(self, name: str, values: Any, reader: str) -> list[str]:
        """Problems of the values of a batch; `reader` is the part that reads them."""
        if self.dtype is str:
            return [f"{name!r} must be text for {reader}"] if not all(isinstance(value, str) for value in values) else []
        first = values[0] if len(values) else None
        if not isinstance(first, Tensor) or first.ndim != len(self.shape):
            got = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
            return [f"{name!r} is {got}, {reader} reads {self}"]
        fixed = [(i, size) for i, size in enumerate(self.shape) if isinstance(size, int)]
        if any(first.shape[i] != size for i, size in fixed) or first.dtype.is_floating_point != self.dtype.is_floating_point:  # type: ignore[union-attr]
            return [f"{name!r} is {str(first.dtype).removeprefix('torch.')} {tuple(first.shape)}, {reader} reads {self}"]
        return self._out_of_range(name, torch.cat([value.flatten() for value in values]) if self.listed else values.flatten(), reader)

    def _out_of_range(self, name: str, values: Tensor, reader: str) -> list[str]:
        beyond = torch.zeros_like(values, dtype=torch.bool)
        if self.low is not None:
            beyond |= values < self.low
        if self.high is not None:
            beyond |= values > self.high
        if self.null_in_data:
            beyond &= values != self.null
        if not bool(beyond.any()):
            return []
        low, high = (f"{end:g}" if end is not None else "any" for end in (self.low, self.high))
        return [f"{name} {values[beyond].max().item():g} is out of range: {reader} knows {low} to {high}"]

    def __str__(self) -> str:
        if self.dtype is str:
            return "text"
        return f"{str(self.dtype).removeprefix('torch.')} ({', '.join(map(str, self.shape))}{',' * (len(self.shape) == 1)})"


def _size(entry: str, sizes: Mapping[str, int]) -> int:
    """An entry of `Key.shape` as a number."""
    match = re.fullmatch(r"([\d.]*)([CHWhw])", entry)
    return max(1, int(float(match[1] or 1) * sizes[match[2]])) if match else 1


def check_sample(sample: Sample, source: str) -> None:
    """Validate a sample.

    Raises:
        ValueError: an unknown or missing key, or a wrong type, shape or range; the message names the source and the key.
    """
    for key in ("image", "id"):
        if key not in sample:
            raise ValueError(f"{source}: a sample has no {key!r} ({KEYS[key]})")
    for key, value in sample.items():
        if key not in KEYS and (near := difflib.get_close_matches(key, KEYS, n=1, cutoff=0.75)):
            raise ValueError(f"{source}: unknown key {key!r}; did you mean {near[0]!r}?")
        if key not in KEYS and not isinstance(value, Tensor | int | float | str):
            raise ValueError(f"{source}: {key!r} is a {type(value).__name__}; expected a number, a text or a tensor")
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
        raise ValueError(
            f"{source}: 'low_res' is {low}, the image is {high}: expected an integer factor of at least 2, the same for both sides"
        )


def _check_range(value: Any, key: str, source: str) -> None:
    if not isinstance(value, Tensor) or value.dtype != torch.float32 or value.ndim != (2 if key == "boxes" else 3):
        got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{source}: {key!r} must be {KEYS[key]}, got {got}")
    low, high = RANGES[key]
    if value.numel() and not (low - 1e-4 <= float(value.min()) and float(value.max()) <= high + 1e-4):
        raise ValueError(f"{source}: {key!r} must be in [{low:g}, {high:g}], got [{value.min():.3g}, {value.max():.3g}]")


def collate(samples: Sequence[Mapping[str, Any]]) -> Batch:
    """Stack samples into a batch: tensors `(B, ...)`, numbers `(B,)` as int64 or float32, everything else lists.

    Raises:
        ValueError: samples with different keys or sizes.
    """
    keys = [key for key in samples[0] if key != "skipped"]
    batch: Batch = {"skipped": [note for sample in samples for note in sample.get("skipped", ())]}
    for key in keys:
        values = [sample.get(key) for sample in samples]
        if any(value is None for value in values):
            raise ValueError(f"sample {samples[[v is None for v in values].index(True)]['id']!r} has no {key!r}, others have")
        if key in LISTS or isinstance(values[0], str):
            batch[key] = values
        elif all(isinstance(value, int | float) for value in values):
            batch[key] = torch.tensor(values, dtype=torch.int64 if all(isinstance(value, int) for value in values) else torch.float32)
        else:
            shapes = {tuple(value.shape) for value in values if value is not None}
            if len(shapes) > 1:
                raise ValueError(f"{key!r} differs in size within a batch: {sorted(shapes)}; set size and crop")
            batch[key] = torch.stack(values)  # type: ignore[arg-type]
    return batch


def value_problems(batch: Batch, keys: Mapping[str, Key], reader: str) -> list[str]:
    """Problems of the values of a batch for one reader, such as class indices out of range; missing keys are ignored."""
    return [text for name, key in keys.items() if name in batch for text in key.problems(name, batch[name], reader)]
