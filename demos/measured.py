"""The result of a task: its metric, a baseline, and pictures."""

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
        metric: description of the metric and its data.
        value, baseline: of the model's samples, and of the baseline.
        baseline_is: description of the baseline.
        higher_is_better: whether a higher value is better.
        others: further numbers by name.
        pictures: caption -> file.
    """

    metric: str
    value: float
    baseline: float
    baseline_is: str
    higher_is_better: bool
    others: Mapping[str, Any]
    pictures: Mapping[str, Path] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The result for a JSON file, with file names of pictures."""
        return {
            "metric": self.metric,
            "value": round(self.value, 5),
            "baseline": round(self.baseline, 5),
            "baseline_is": self.baseline_is,
            "higher_is_better": self.higher_is_better,
            "others": {key: rounded(value) for key, value in self.others.items()},
            "pictures": {caption: path.name for caption, path in self.pictures.items()},
        }


def rounded(value: Any) -> Any:
    """Round floats to five places, also in nested mappings and lists."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def mean(values: Tensor) -> float:
    """Mean of one number per image."""
    return float(values.double().mean())


def standard_error(values: Tensor) -> float:
    """Standard error of the mean of one number per image `(N,)`, for independent images."""
    return float(values.double().std() / len(values) ** 0.5)


def of_another(count: int) -> Tensor:
    """For each of `count` conditions the index of another one: the next, and for the last the first."""
    return torch.arange(count).roll(-1)
