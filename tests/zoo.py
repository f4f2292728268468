"""What training takes: the table of docs/zoo.md and a line in the header of each config; `PYTHONPATH=. python tests/zoo.py` writes both."""

import re
from dataclasses import dataclass
from pathlib import Path

from ldm.check.cost import GIB, Cost, training_cost
from ldm.checkpoint.source import nodes_of
from ldm.config import Config, load
from ldm.config.validate import FROM_DATA

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "zoo.md"
CONFIGS = sorted(path for folder in ("first_stage", "ldm", "dit") for path in (ROOT / "configs" / folder).glob("*.yaml"))
SMALL = sorted(path for folder in ("demo", "demo/compression", "own") for path in (ROOT / "configs" / folder).glob("*.yaml"))
HEAD = "| config | steps x batch | images seen | memory on one device | A100 time | disk |\n|---|---|---|---|---|---|\n"
COMMANDS = re.compile(r"(?m)^(#   .*\n)+")
ESTIMATE = re.compile(r"(?m)^# Estimated .*\n")
GIVEN = {"num_classes": 10, "vocabulary": "[PAD] [UNK]"}  # what the data would say


@dataclass(frozen=True)
class Device:
    """What trains: operations per second in matrix products, and bytes per number that the backward pass keeps."""

    name: str
    rate: float
    bytes_kept: int


A100 = Device("an A100", 312e12, 2)  # bf16
DEVICES = {"demo": Device("2 CPU cores of 0.2 TFLOP/s", 0.2e12, 4), "own": Device("a GPU of 25 TFLOP/s", 25e12, 2)}


def device_of(path: Path) -> Device:
    """The device for which the header of a config estimates."""
    return DEVICES.get(path.relative_to(ROOT / "configs").parts[0], A100)


def filled(config: Config) -> Config:
    """A config whose data is not here, with a value for each argument that its data would say."""
    for node in nodes_of(config.data["model"]):
        params = node.get("params") or {}
        params |= {key: GIVEN[key] for key, value in params.items() if value == FROM_DATA}
    return config


def cells(path: Path, cost: Cost, device: Device) -> tuple[str, str, str, str, str]:
    """Steps and batch, images, memory, time, disk."""
    hours = cost.hours(device.rate)
    time = f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h" if hours >= 1 else f"{max(1.0, 60 * hours):.0f} min"
    images = f"{cost.images / 1e6:.2f} M" if cost.images >= 1e5 else str(cost.images)
    return f"{cost.steps} x {cost.batch}", images, _gib(cost.memory, 0), time, _gib(cost.disk, 1)


def _gib(size: int, digits: int) -> str:
    return f"{size / GIB:.{digits if size >= GIB else 1}f} GiB" if size >= 0.05 * GIB else f"{size / 2**20:.0f} MiB"


def row(path: Path, cost: Cost) -> str:
    """The line of the table; the last three cells are estimates of `training_cost`."""
    return f"| `{path.relative_to(ROOT / 'configs').with_suffix('').as_posix()}` | {' | '.join(cells(path, cost, A100))} |\n"


def header_line(path: Path, cost: Cost, seconds: float | None) -> str:
    """The line of the header; `seconds` is the limit of a config whose steps are limited by time."""
    device = device_of(path)
    _, images, memory, time, disk = cells(path, cost, device)
    length = f"{cost.steps} steps of {cost.batch}, {images} images; {time} on {device.name}"
    length = length if seconds is None else f"{seconds / 60:.0f} min, then it stops"
    return f"# Estimated (formulas: docs/zoo.md): {length}, {memory} of memory, {disk} of disk.\n"


def estimated(path: Path) -> tuple[str, str]:
    """The line of the table and that of the header of a config."""
    config = filled(load([path]))
    cost = training_cost(config, bytes_kept=device_of(path).bytes_kept)
    return row(path, cost), header_line(path, cost, config.data["trainer"]["params"].get("max_seconds"))


def main() -> None:
    """Write the table, and the line of every config below its commands."""
    rows = []
    for path in (*CONFIGS, *SMALL):
        of_table, of_header = estimated(path)
        rows += [of_table] * (path in CONFIGS)
        text = ESTIMATE.sub("", path.read_text(encoding="utf-8"))
        path.write_text(COMMANDS.sub(lambda found, line=of_header: found[0] + line, text, count=1), encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(re.escape(HEAD) + r"(\|.*\n)*", lambda _: HEAD + "".join(rows), text), encoding="utf-8")


if __name__ == "__main__":
    main()
