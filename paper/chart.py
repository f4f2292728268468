"""Charts as PNG files: lines with markers over two axes, either of them logarithmic."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, LogLocator, StrMethodFormatter

from ldm.evaluation.curves import COLOURS
from ldm.system.files import write_whole

MARKED = 60  # points; more of them would hide the line
Line = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """A label, and whether the axis is logarithmic."""

    label: str
    log: bool = False


def draw_chart(path: Path, lines: Mapping[str, Line], x: Axis, y: Axis, title: str, levels: Mapping[str, float] | None = None) -> None:
    """Write a chart.

    Args:
        path: of the PNG, which is whole or not there.
        lines: (x, y) in the order of drawing, by the name of the line; points that are not finite are left out.
        x, y: the axes.
        title: above it.
        levels: dashed horizontal lines, by name.

    Raises:
        ValueError: no finite point, or one that a logarithmic axis has no place for.
    """
    levels = levels or {}
    finite = {name: [point for point in line if all(map(math.isfinite, point))] for name, line in lines.items()}
    points = [point for line in finite.values() for point in line]
    if not points:
        raise ValueError(f"{title}: no finite point to draw")
    if (x.log and min(p[0] for p in points) <= 0) or (y.log and min([*(p[1] for p in points), *levels.values()]) <= 0):
        raise ValueError(f"{title}: a logarithmic axis has no place for 0 or less")
    figure = Figure(figsize=(7.6, 4.4), dpi=100, layout="constrained")  # without pyplot: no window, no global state
    axes = figure.add_subplot()
    for (name, line), colour in zip(finite.items(), _colours(len(finite)), strict=True):
        axes.plot([p[0] for p in line], [p[1] for p in line], color=colour, label=name, marker="o" if len(line) <= MARKED else "")
    for name, level in levels.items():
        axes.axhline(level, color="#888888", linestyle="--", linewidth=1, label=name)
    for axis, ruler, scale in ((x, axes.xaxis, axes.set_xscale), (y, axes.yaxis, axes.set_yscale)):
        if axis.log:
            scale("log")
            ruler.set_major_locator(LogLocator(subs=(1, 2, 5)))
            low, high = sorted(ruler.get_view_interval())
            if sum(low <= tick <= high for tick in ruler.get_majorticklocs()) < 2:  # 2.1 to 4.8
                ruler.set_major_locator(AutoLocator())
            ruler.set_major_formatter(StrMethodFormatter("{x:g}"))
            ruler.set_minor_locator(LogLocator(subs=()))
        ruler.set_label_text(axis.label + (", logarithmic" if axis.log else ""))
    axes.grid(color="#e3e3e3")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left")
    figure.legend(loc="outside right upper", frameon=False)
    write_whole(path, lambda beside: figure.savefig(beside, format="png"))


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]
