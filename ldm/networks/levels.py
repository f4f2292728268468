"""What describes the levels of a network, the same for all of them."""

from collections.abc import Sequence

from ldm.ranges import integer, integers


def check_levels(width: int, width_mult: Sequence[int], blocks_per_level: int, attention_at: Sequence[int]) -> None:
    """Hold what describes the levels of a network against its ranges.

    Raises:
        ValueError: no level, or one without width or blocks.
    """
    integer(width=width, blocks_per_level=blocks_per_level)
    integers(width_mult=width_mult, attention_at=attention_at or None)
