"""Curves as SVG: numbers over steps, one line per run."""

import io
import math
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

Points = Sequence[tuple[int, float]]

COLOURS = ("#1f6fb4", "#d1495b", "#2e8b57", "#8e5ea2", "#c77800", "#2b8a9e", "#6b705c", "#b23a8f")
LARGEST = 1e300  # sums and ranges of larger numbers may be infinite
BUCKETS = 300  # a line of more points is drawn as their means, with their range behind it
MARKED = 30  # a line of at most this many points has markers


def curve(lines: Mapping[str, Points]) -> str:
    """A chart as an SVG file; the vertical axis is logarithmic where values span more than a factor of 50.

    Args:
        lines: (step, value) in order, by the name of the line; values that are not finite are left out.

    Raises:
        ValueError: no finite value at all.
    """
    finite = [drawable(points) for points in lines.values()]
    values = [value for points in finite for _, value in points]
    if not values:
        raise ValueError("no finite value to draw")
    figure = Figure(figsize=(4.8, 2.4))  # without pyplot: no window, no global state
    axes = figure.add_axes((0.13, 0.11, 0.85, 0.86))
    for points, colour in zip(finite, cycle(COLOURS), strict=False):
        if points:
            steps, mean, low, high = thinned(points)
            axes.plot(steps, mean, color=colour, marker="." if len(steps) <= MARKED else "")
            axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
    if min(values) > 0 and max(values) / min(values) > 50:
        axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:.4g}")
    axes.grid(axis="y", color="#e3e3e3")
    axes.spines[:].set_visible(False)
    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "curve"}):  # text as text; the same file every time
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def drawable(points: Points) -> Points:
    """The points with a finite value."""
    return [(step, value) for step, value in points if abs(value) < LARGEST]


def thinned(points: Points, count: int = BUCKETS) -> np.ndarray:
    """Steps, means, least and largest values over consecutive points, `(4, n)` with n at most `count`."""
    size = math.ceil(len(points) / count)
    parts = [np.array(points[i : i + size]) for i in range(0, len(points), size)]
    return np.array([(part[len(part) // 2, 0], part[:, 1].mean(), part[:, 1].min(), part[:, 1].max()) for part in parts]).T
