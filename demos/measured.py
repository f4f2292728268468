"""What a demo of a task found out: its number against the obvious baseline, and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Measured:
    """A task's result.

    Attributes:
        metric: what was measured, and on what.
        value, baseline: of the model's samples, and of what it has to beat.
        beaten: what the baseline is.
        higher_is_better: whether it is.
        others: further numbers, each by a name that says what it is.
        pictures: caption -> file.
    """

    metric: str
    value: float
    baseline: float
    beaten: str
    higher_is_better: bool
    others: Mapping[str, Any]
    pictures: Mapping[str, Path] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """For a JSON file; pictures by name."""
        return {
            "metric": self.metric,
            "value": round(self.value, 5),
            "baseline": round(self.baseline, 5),
            "baseline_is": self.beaten,
            "higher_is_better": self.higher_is_better,
            "others": {key: rounded(value) for key, value in self.others.items()},
            "pictures": {caption: path.name for caption, path in self.pictures.items()},
        }


def rounded(value: Any) -> Any:
    """Floats to five places, in nested mappings and lists too."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def mean(values: Tensor) -> float:
    """Of one number per image."""
    return float(values.double().mean())


def standard_error(values: Tensor) -> float:
    """Of the mean of one number per image `(N,)`, as if images were drawn independently."""
    return float(values.double().std() / len(values) ** 0.5)


def against_another(count: int) -> Tensor:
    """For each of `count` conditions another one to hold the image against: the next, the last one's is the first."""
    return torch.arange(count).roll(-1)
