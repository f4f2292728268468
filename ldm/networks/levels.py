"""Validation of the arguments that describe a network's levels."""

from collections.abc import Sequence

from ldm.ranges import integer, integers


def check_levels(width: int, width_mult: Sequence[int], blocks_per_level: int, attention_at: Sequence[int]) -> None:
    """Validate the arguments that describe a network's levels.

    Raises:
        ValueError: no levels, or a width, multiplier, number of blocks or attention factor out of range.
    """
    integer(width=width, blocks_per_level=blocks_per_level)
    integers(width_mult=width_mult, attention_at=attention_at or None)
