"""The table of docs/zoo.md of what training takes: `PYTHONPATH=. python tests/zoo.py` writes it again."""

import re
from pathlib import Path

from ldm.check.cost import GIB, training_cost
from ldm.config import load

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "zoo.md"
CONFIGS = sorted(path for folder in ("first_stage", "ldm", "dit") for path in (ROOT / "configs" / folder).glob("*.yaml"))
A100 = 312e12  # operations per second of bf16 matrix products
HEAD = "| config | steps x batch | images seen | memory on one device | A100 time | disk |\n|---|---|---|---|---|---|\n"


def row(path: Path) -> str:
    """The line of a config; the last three cells are estimates of `training_cost` in bf16."""
    cost = training_cost(load([path]), bytes_kept=2)
    name, hours = path.relative_to(ROOT / "configs").with_suffix("").as_posix(), cost.hours(A100)
    time = f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h"
    memory, disk = f"{cost.memory / GIB:.0f} GiB", f"{cost.disk / GIB:.1f} GiB"
    return f"| `{name}` | {cost.steps} x {cost.batch} | {cost.images / 1e6:.2f} M | {memory} | {time} | {disk} |\n"


def main() -> None:
    """Write the table of all configs."""
    text = PAGE.read_text(encoding="utf-8")
    table = re.escape(HEAD) + r"(\|.*\n)*"
    rows = "".join(row(path) for path in CONFIGS)
    PAGE.write_text(re.sub(table, lambda _: HEAD + rows, text), encoding="utf-8")


if __name__ == "__main__":
    main()
