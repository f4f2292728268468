"""Charts as PNG files: lines with markers over two axes, either of them logarithmic. Drawn with Pillow."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ldm.evaluation.curves import COLOURS, log_ticks, ticks
from ldm.files import write_whole

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 74, 150, 66, 56
FINE = 3  # drawn so many times as large, then reduced: smooth edges

Line = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """A label, and whether the axis is logarithmic."""

    label: str
    log: bool = False

    def place(self, value: float) -> float:
        """Where on the axis a value lies, in its own units."""
        return math.log10(value) if self.log else value

    def marks(self, low: float, high: float) -> list[float]:
        """Values to write beside it, between two places."""
        if not self.log:
            return ticks(low, high)
        found = log_ticks(low, high)
        return found if len(found) > 1 else ticks(10**low, 10**high, 4)


def draw_chart(path: Path, lines: Mapping[str, Line], x: Axis, y: Axis, title: str, levels: Mapping[str, float] | None = None) -> None:
    """Write a chart.

    Args:
        path: of the PNG, which is whole or not there.
        lines: (x, y) in the order of drawing, by the name of the line; markers at every point.
        x, y: the axes.
        title: above it.
        levels: dashed horizontal lines, by name.

    Raises:
        ValueError: no finite point, or one that a logarithmic axis has no place for.
    """
    levels = levels or {}
    points = [point for line in lines.values() for point in line if all(map(math.isfinite, point))]
    if not points:
        raise ValueError(f"{title}: no finite point to draw")
    if (x.log and min(p[0] for p in points) <= 0) or (y.log and min([*(p[1] for p in points), *levels.values()]) <= 0):
        raise ValueError(f"{title}: a logarithmic axis has no place for 0 or less")
    across = _scale(x, [p[0] for p in points], LEFT, WIDTH - RIGHT)
    down = _scale(y, [*(p[1] for p in points), *levels.values()], HEIGHT - BOTTOM, TOP)
    picture = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), "white")
    pen = _Pen(picture)
    pen.text(8, 10, title, 15)
    _frame(pen, x, y, across, down)
    for name, level in levels.items():
        at = down.to_pixel(level)
        for left in range(LEFT, WIDTH - RIGHT, 10):
            pen.line([(left, at), (left + 5, at)], "#888888", 1.5)
        pen.text(WIDTH - RIGHT + 8, at, name, 12, "lm", "#555555")
    for i, (name, line) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        placed = [(across.to_pixel(a), down.to_pixel(b)) for a, b in line if math.isfinite(a) and math.isfinite(b)]
        pen.line(placed, colour, 2)
        for at_x, at_y in placed if len(placed) <= 60 else []:
            pen.dot(at_x, at_y, 4, colour)
        pen.line([(WIDTH - RIGHT + 62, TOP + 12 + 20 * i), (WIDTH - RIGHT + 84, TOP + 12 + 20 * i)], colour, 3)
        pen.text(WIDTH - RIGHT + 90, TOP + 12 + 20 * i, name, 13, "lm")
    small = picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    write_whole(path, lambda beside: small.save(beside, format="PNG"))


@dataclass(frozen=True)
class _Span:
    low: float
    high: float
    to_pixel: Callable[[float], float]


def _scale(axis: Axis, values: Sequence[float], first: int, last: int) -> _Span:
    """From values to pixels, with some air at both ends."""
    places = [axis.place(value) for value in values]
    low, high = min(places), max(places)
    pad = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
    low, high = low - pad, high + pad
    return _Span(low, high, lambda value: first + (axis.place(value) - low) / (high - low) * (last - first))


def _frame(pen: "_Pen", x: Axis, y: Axis, across: _Span, down: _Span) -> None:
    """Grid, numbers and labels."""
    for value in y.marks(down.low, down.high):
        at = down.to_pixel(value)
        pen.line([(LEFT, at), (WIDTH - RIGHT, at)], "#e3e3e3", 1)
        pen.text(LEFT - 8, at, f"{value:.4g}", 12, "rm")
    for value in x.marks(across.low, across.high):
        at = across.to_pixel(value)
        pen.line([(at, TOP), (at, HEIGHT - BOTTOM)], "#e3e3e3", 1)
        pen.text(at, HEIGHT - BOTTOM + 8, f"{value:.4g}", 12, "ma")
    pen.line([(LEFT, TOP), (LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM)], "#555555", 1)
    pen.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 24, x.label + (", logarithmic" if x.log else ""), 13, "ma")
    pen.text(8, TOP - 12, y.label + (", logarithmic" if y.log else ""), 13, "ld")


class _Pen:
    """Draws in the chart's own units on a picture that is larger."""

    def __init__(self, picture: Image.Image) -> None:
        self.draw = ImageDraw.Draw(picture)

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float) -> None:
        if len(points) > 1:
            self.draw.line([(a * FINE, b * FINE) for a, b in points], fill=colour, width=round(width * FINE), joint="curve")

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        self.draw.ellipse([(x - radius) * FINE, (y - radius) * FINE, (x + radius) * FINE, (y + radius) * FINE], fill=colour)

    def text(self, x: float, y: float, text: str, size: int, anchor: str = "la", colour: str = "#222222") -> None:
        self.draw.text((x * FINE, y * FINE), text, fill=colour, font=ImageFont.load_default(size * FINE), anchor=anchor)
