"""Curves as inline SVG: numbers over steps, one line per run."""

import math
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

Points = Sequence[tuple[int, float]]

COLOURS = ("#1f6fb4", "#d1495b", "#2e8b57", "#8e5ea2", "#c77800", "#2b8a9e", "#6b705c", "#b23a8f")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 480, 240, 62, 10, 10, 28
LARGEST = 1e300  # sums and ranges of larger numbers may be infinite
BUCKETS = 300  # more points than this are drawn as their means, with the range behind


def curve(lines: Mapping[str, Points], title: str) -> str:
    """A chart as one `<svg>` element, all text in it escaped; the vertical axis is logarithmic where values span a lot.

    Values that are not finite leave gaps out: they are not drawn.

    Args:
        lines: (step, value) in order, by the name of the line.
        title: what a screen reader says.

    Raises:
        ValueError: no finite value at all.
    """
    finite = {name: drawable(points) for name, points in lines.items()}
    values = [v for points in finite.values() for _, v in points]
    if not values:
        raise ValueError(f"{title}: no finite value to draw")
    steps = [s for points in finite.values() for s, _ in points]
    log = min(values) > 0 and max(values) / min(values) > 50
    low, high = (math.log10(min(values)), math.log10(max(values))) if log else (min(values), max(values))
    pad = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
    low, high = low - pad, high + pad
    first, span = min(steps), max(max(steps) - min(steps), 1)

    def x(step: float) -> float:
        return LEFT + (step - first) / span * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (high - (math.log10(value) if log else value)) / (high - low) * (HEIGHT - TOP - BOTTOM)

    svg = Element("svg", {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria-label": title})
    for value in log_ticks(low, high) if log else ticks(low, high):
        _line(svg, [(LEFT, y(value)), (WIDTH - RIGHT, y(value))], "#e3e3e3", 1)
        _text(svg, LEFT - 6, y(value) + 4, f"{value:.4g}", "end")
    for step in ticks(first, first + span, 4):
        _text(svg, x(step), HEIGHT - 8, f"{step:g}", "middle")
    for i, points in enumerate(finite.values()):
        colour = COLOURS[i % len(COLOURS)]
        middle, below, above = thinned(points, BUCKETS)
        if len(middle) < len(points):
            band = [(x(s), y(v)) for s, v in [*above, *reversed(below)]]
            SubElement(svg, "polygon", {"points": _join(band), "fill": colour, "opacity": "0.18"})
        _line(svg, [(x(s), y(v)) for s, v in middle], colour, 2)
        for s, v in middle if len(middle) <= 30 else ():
            SubElement(svg, "circle", {"cx": f"{x(s):.1f}", "cy": f"{y(v):.1f}", "r": "2.5", "fill": colour})
    return tostring(svg, encoding="unicode")


def drawable(points: Points) -> Points:
    """Those of finite value."""
    return [(s, v) for s, v in points if abs(v) < LARGEST]


def thinned(points: Points, count: int) -> tuple[Points, Points, Points]:
    """Means, least and largest values over runs of neighbouring points, at most `count` of them."""
    size = math.ceil(len(points) / count) if len(points) > count else 1
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    middle = [(part[len(part) // 2][0], sum(v for _, v in part) / len(part)) for part in parts]
    below = [(s, min(v for _, v in part)) for (s, _), part in zip(middle, parts, strict=True)]
    above = [(s, max(v for _, v in part)) for (s, _), part in zip(middle, parts, strict=True)]
    return middle, below, above


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers in a range: multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / about))
    step = next(power * m for m in (1, 2, 5, 10) if (high - low) / (power * m) <= about)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between two exponents; with fewer than two of them, also their halves (about 3)."""
    powers = [10.0**i for i in range(math.ceil(low), math.floor(high) + 1)]
    if len(powers) >= 2:
        return powers[:: max(1, len(powers) // 6)]
    return [m * 10.0**i for i in range(math.floor(low), math.ceil(high) + 1) for m in (1, 3) if low <= math.log10(m * 10.0**i) <= high]


def _join(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _line(svg: Element, points: Sequence[tuple[float, float]], colour: str, width: int) -> None:
    SubElement(svg, "polyline", {"points": _join(points), "fill": "none", "stroke": colour, "stroke-width": str(width)})


def _text(svg: Element, x: float, y: float, text: str, anchor: str) -> None:
    SubElement(svg, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}).text = text
