"""The picture of the house in docs/house.svg, drawn from the imports: `python tests/house.py` draws it anew."""

import sys
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from test_layers import LAYERS, MODULES, ROOT, imports, name_of, unit_of  # noqa: E402

PICTURE = ROOT / "docs" / "house.svg"
WIDTH, ROW, BOX, GAP = 980, 74, 40, 18


def edges() -> set[tuple[str, str]]:
    """(unit, unit that it imports from)."""
    found = set()
    for path in MODULES:
        unit = unit_of(name_of(path))[1]
        targets = {target for target in imports(path) if target.split(".")[0] in ("ldm", "demos", "paper") and target != "ldm"}
        found |= {(unit, unit_of(target)[1]) for target in targets}
    return {(a, b) for a, b in found if a != b}


def reduced(found: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Without those that a way through other units says already."""
    units = {unit for edge in found for unit in edge}

    def reaches(a: str, b: str) -> bool:
        return any((a, c) in found and (c == b or reaches(c, b)) for c in units)

    return {(a, b) for a, b in found if not any((a, c) in found and c != b and reaches(c, b) for c in units)}


def places() -> dict[str, tuple[float, float, float]]:
    """Middle, top and width of each unit's box; the lowest layer is at the bottom."""
    found = {}
    for level, layer in enumerate(reversed(LAYERS)):
        units = sorted(layer)
        each = min(250.0, (WIDTH - GAP) / len(units) - GAP)
        left = (WIDTH - len(units) * (each + GAP) + GAP) / 2
        for i, unit in enumerate(units):
            found[unit] = (left + i * (each + GAP) + each / 2, GAP + level * ROW, each)
    return found


def drawn() -> str:
    """The picture as SVG."""
    at = places()
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {len(LAYERS) * ROW + GAP}" font-family="sans-serif" font-size="13">',
        "<title>Units of the project; a line leads down to those that a unit imports from</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for unit, other in sorted(reduced(edges())):
        (x, y, _), (u, v, _) = at[unit], at[other]
        parts.append(f'<path d="M{x:.0f} {y + BOX} C{x:.0f} {y + ROW} {u:.0f} {v - ROW + BOX} {u:.0f} {v}" fill="none" stroke="#9db4cc"/>')
    for unit, (x, y, width) in sorted(at.items()):
        parts.append(f'<rect x="{x - width / 2:.0f}" y="{y}" width="{width:.0f}" height="{BOX}" rx="6" fill="#eef3f8" stroke="#4a6a8a"/>')
        parts.append(f'<text x="{x:.0f}" y="{y + 25}" text-anchor="middle">{escape(unit)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(drawn(), encoding="utf-8")
