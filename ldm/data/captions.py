"""Captions of tables and shards: one text or several, of which one is drawn for each position in a run's order."""

from collections.abc import Sequence
from typing import Any

import torch

from ldm.data.files import is_text
from ldm.data.transforms import UnreadableImage
from ldm.rng import generator

CAPTION = ("caption", "text")  # keys of tables; the second is that of Hugging Face


class BadLine(ValueError):
    """An entry of a table that cannot be used; the message says why."""


def captions(value: Any, key: str) -> tuple[str, ...]:
    """A caption, or a list of them.

    Raises:
        BadLine: names the key and what was expected.
    """
    found = value if isinstance(value, list) else [value]
    if not found or not all(isinstance(text, str) for text in found):
        raise BadLine(f"{key}: expected a string or a list of strings, got {value!r}")
    for text in found:
        if not is_text(text):  # an escaped surrogate
            raise BadLine(f"{key}: {text[:200]!r} is not UTF-8 text")
    return tuple(found)


def draw_caption(captions: Sequence[str], name: str, seed: int, place: int) -> str:
    """Draw one of the captions of an image.

    Raises:
        UnreadableImage: there is none.
    """
    if not captions:
        raise UnreadableImage("has no caption")
    if len(captions) == 1:
        return captions[0]
    return captions[int(torch.randint(len(captions), (), generator=generator(seed, "caption", place, name)))]
