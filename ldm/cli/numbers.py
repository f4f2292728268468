"""Numbers of the command line, each with an upper bound: one digit too many ends in a message, not in a machine without memory."""

import argparse
import math
from collections.abc import Callable

from ldm.system.processes import MOST

COUNT = 10**8  # of anything
SIDE = 32768  # of an image, in pixels
SEED = 2**63 - 1
SIZE = 1e9  # of a number with a fraction


def integer(most: int = COUNT) -> Callable[[str], int]:
    """The type of a flag: an integer of at most so much, on either side of 0."""

    def value_of(text: str) -> int:
        value = int(text)
        if abs(value) > most:
            raise argparse.ArgumentTypeError(f"{text}: expected at most {most}")
        return value

    value_of.__name__ = "integer"  # argparse says it
    return value_of


def number(text: str) -> float:
    """The type of a flag: a number, neither nan nor infinite, of at most `SIZE` on either side of 0."""
    value = float(text)
    if not math.isfinite(value) or abs(value) > SIZE:
        raise argparse.ArgumentTypeError(f"{text}: expected a number of at most {SIZE:g}")
    return value


pixels = integer(SIDE)
workers = integer(MOST)
seed = integer(SEED)
