"""Validate values of a batch against a model, e.g. that class indices are in range."""

from collections.abc import Mapping

from ldm.conditioning import Conditioner
from ldm.data.batch import Batch, Key


def value_problems(batch: Batch, keys: Mapping[str, Key], reader: str) -> list[str]:
    """Problems of the values of a batch for one reader; keys that are missing in the batch are ignored."""
    return [text for name, key in keys.items() if name in batch for text in key.problems(name, batch[name], reader)]


def condition_values(batch: Batch, conditioner: Conditioner) -> list[str]:
    """The same for every part of a conditioner."""
    return [text for part in conditioner.leaves() for text in value_problems(batch, part.keys, type(part).__name__)]
