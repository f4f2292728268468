"""Charts as PNG files: lines with markers over two axes, either of them logarithmic."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from ldm.evaluation.curves import COLOURS, readable_log
from ldm.system.files import write_atomically

MARKED = 60  # points; more markers would hide the line


@dataclass(frozen=True)
class Axis:
    """A label, and whether the axis is logarithmic."""

    label: str
    log: bool = False


def draw_chart(
    path: Path, lines: Mapping[str, Sequence[tuple[float, float]]], x: Axis, y: Axis, title: str, levels: Mapping[str, float] | None = None
) -> None:
    """Write a chart of lines, (x, y) points by name, and of dashed horizontal `levels` as a PNG.

    Points that are not finite are left out.

    Raises:
        ValueError: no point is finite, or a value on a logarithmic axis is not above 0.
    """
    levels = levels or {}
    finite = {name: [point for point in line if all(map(math.isfinite, point))] for name, line in lines.items()}
    points = [point for line in finite.values() for point in line]
    if not points:
        raise ValueError(f"{title}: no finite point to draw")
    if (x.log and min(p[0] for p in points) <= 0) or (y.log and min([*(p[1] for p in points), *levels.values()]) <= 0):
        raise ValueError(f"{title}: values on a logarithmic axis must be above 0")
    figure = Figure(figsize=(7.6, 4.4), dpi=100, layout="constrained")  # without pyplot: no window, no global state
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=COLOURS)
    for name, line in finite.items():
        axes.plot(*zip(*line, strict=True), label=name, marker="o" if len(line) <= MARKED else "")
    for name, level in levels.items():
        axes.axhline(level, color="#888888", linestyle="--", linewidth=1, label=name)
    axes.set(title=title, xscale="log" if x.log else "linear", yscale="log" if y.log else "linear")
    for axis, drawn in ((x, axes.xaxis), (y, axes.yaxis)):
        drawn.set_label_text(axis.label + (", logarithmic" if axis.log else ""))
        if axis.log:
            readable_log(drawn)
            drawn.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(color="#e3e3e3")
    figure.legend(loc="outside right upper", frameon=False)
    write_atomically(path, lambda beside: figure.savefig(beside, format="png"))
