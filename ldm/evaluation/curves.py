"""Curves as SVG: numbers over steps, one line per run."""

import io
import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from statistics import median

import numpy as np
from matplotlib import rc_context
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, LogLocator, MaxNLocator, NullLocator

Points = Sequence[tuple[int, float]]

COLOURS = ("#1f6fb4", "#d1495b", "#2e8b57", "#8e5ea2", "#c77800", "#2b8a9e", "#6b705c", "#b23a8f")
LARGEST = 1e300  # sums and ranges of larger numbers may be infinite
BUCKETS = 300  # a line of more points is drawn as their means, with their range behind it
MARKED = 30  # lines of at most this many points have markers


def curve(
    lines: Mapping[str, Points], dashed: Mapping[str, Points] | None = None, until: int | None = None, from_zero: bool = False
) -> str:
    """A chart as an SVG file.

    Args:
        lines: (step, value) in order, by the name of the line; values that are not finite are left out.
        dashed: others, in the same order and colours.
        until: the step at which the axis ends; None is the last one.
        from_zero: whether the vertical axis begins at 0, as for a speed.

    Raises:
        ValueError: no finite value at all.
    """
    kinds = [("-", lines), ("--", dashed or {})]
    values = [value for _, some in kinds for points in some.values() for _, value in drawable(points)]
    if not values:
        raise ValueError("no finite value to draw")
    marker = "." if all(len(points) <= MARKED for _, some in kinds for points in some.values()) else ""
    figure = Figure(figsize=(4.8, 2.6))  # without pyplot: no window, no global state
    axes = figure.add_axes((0.16, 0.18, 0.78, 0.79))  # the same for all, so that the steps of charts are one above the other
    for style, some in kinds:
        for points, colour in zip(map(drawable, some.values()), cycle(COLOURS), strict=False):
            if points:
                steps, mean, low, high = thinned(points)
                axes.plot(steps, mean, style, color=colour, marker=marker, clip_on=False)
                axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
    if until:
        axes.set_xlim(0, until)
    if from_zero:
        axes.set_ylim(bottom=0)
    elif logarithmic(values):
        axes.set_yscale("log")
        readable_log(axes.yaxis)
    axes.yaxis.set_major_formatter("{x:.4g}")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("step", color="#444444")
    axes.tick_params(colors="#444444", length=0, pad=5)
    axes.grid(axis="y", color="#dddddd")
    axes.spines[:].set_visible(False)
    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "curve"}):  # text as text; the same file every time
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    return file.getvalue()


def logarithmic(values: Sequence[float]) -> bool:
    """Whether finite values need a logarithmic axis: a factor of more than 50 between them, and most far below the largest.

    A learning rate that falls linearly to almost 0 has the first, but not the second.
    """
    return min(values) > 0 and max(values) / min(values) > 50 and max(values) / median(values) >= 5


def readable_log(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5 times powers of ten; evenly spaced if there are fewer than two of these."""
    ticks = LogLocator(subs=(1, 2, 5))
    low, high = axis.get_view_interval()
    few = sum(low <= tick <= high for tick in ticks.tick_values(low, high)) < 2  # as from 2.1 to 4.8
    axis.set_major_locator(AutoLocator() if few else ticks)
    axis.set_minor_locator(NullLocator())


def drawable(points: Points) -> Points:
    """The points with a finite value."""
    return [(step, value) for step, value in points if abs(value) < LARGEST]


def thinned(points: Points, count: int = BUCKETS) -> np.ndarray:
    """Steps, means, least and largest values over consecutive points, `(4, n)` with n at most `count`."""
    size = math.ceil(len(points) / count)
    parts = [np.array(points[i : i + size]) for i in range(0, len(points), size)]
    return np.array([(part[len(part) // 2, 0], part[:, 1].mean(), part[:, 1].min(), part[:, 1].max()) for part in parts]).T
