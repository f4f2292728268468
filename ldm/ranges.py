"""Range checks for arguments of constructors. None passes, because the signature says where it is allowed.

Each function takes values by name and raises ValueError with name, range and value.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

MOST = 2**31 - 1  # of any count or size in pixels; a larger number is a mistake


def integer(least: int = 1, most: int = MOST, /, **values: Any) -> None:
    """Integers from `least` to `most`."""
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError(f"{name} must be an integer, got {value!r}")
        if int(value) < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
        if int(value) > most:
            raise ValueError(f"{name} must be at most {most}, got {value}")


def integers(least: int = 1, /, **lists: Any) -> None:
    """Non-empty lists of integers of at least `least`."""
    for name, values in lists.items():
        if values is None:
            continue
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"{name} must be a list of at least one integer, got {values!r}")
        for i, value in enumerate(values):
            integer(least, 2**63 - 1, **{f"{name}[{i}]": value})  # released configs have cycles of 10^13 steps


def number(least: float = -math.inf, most: float = math.inf, /, **values: Any) -> None:
    """Finite numbers from `least` to `most`."""
    for name, value in values.items():
        if value is None:
            continue
        if not finite(value) or not least <= value <= most:
            raise ValueError(f"{name} must be {_said(least, most)}, got {value!r}")


def positive(**values: Any) -> None:
    """Finite numbers above 0."""
    for name, value in values.items():
        if value is not None and (not finite(value) or value <= 0):
            raise ValueError(f"{name} must be a number above 0, got {value!r}")


def share(**values: Any) -> None:
    """Numbers from 0 to 1."""
    number(0, 1, **values)


def span(**values: Any) -> None:
    """Pairs of finite numbers, the first not above the second."""
    for name, value in values.items():
        if value is not None and (len(value) != 2 or not all(map(finite, value)) or value[0] > value[1]):
            raise ValueError(f"{name} must be two numbers, the smaller one first, got {list(value)}")


def finite(value: Any) -> bool:
    """Whether it is a number that is neither NaN nor infinite."""
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def _said(least: float, most: float) -> str:
    if least == -math.inf and most == math.inf:
        return "a finite number"
    if most == math.inf:
        return f"a number of at least {least:g}"
    return f"a number from {least:g} to {most:g}"
