"""Reads a run folder: config, numbers over time, pictures, incidents and metric records."""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm.config.load import read
from ldm.errors import MissingFile, UserError
from ldm.evaluation.record import Record, read_records
from ldm.system.files import complete_lines


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        name: of the folder.
        config: resolved.
        base: the config without the command line's changes, resolved; None if it was not recorded.
        series: by name, (step, value) in order; values may be NaN.
        pictures: by kind, (step, file) in order.
        incidents: as stored: `step`, `kind`, `what`.
        sessions: starts and resumes as stored in `sessions.jsonl`, with device, parameters and precision; empty for older runs.
        records: of metrics (`*record*.json`), each with its file.
    """

    name: str
    config: dict[str, Any]
    base: dict[str, Any] | None
    series: dict[str, list[tuple[int, float]]]
    pictures: dict[str, list[tuple[int, Path]]]
    incidents: list[dict[str, Any]]
    sessions: list[dict[str, Any]]
    records: list[tuple[str, Record]]

    @property
    def steps(self) -> int:
        """The last step with a number."""
        return max((points[-1][0] for points in self.series.values()), default=0)

    def values(self, name: str) -> list[float]:
        """The numbers of a series without their steps; empty if there is none."""
        return [value for _, value in self.series.get(name, [])]


def read_run(folder: Path) -> Run:
    """A run folder of `main.py`; what it has so far if the run is still training.

    Raises:
        MissingFile: no such folder, or no config in it.
        UserError: a file in it that cannot be read.
    """
    if not (folder / "config.yaml").is_file():
        raise MissingFile(f"{folder}: not a run folder (expected {folder / 'config.yaml'})")
    base = folder / "base.yaml"
    incidents, damaged = read_lines(folder / "incidents.jsonl")
    incidents += [{"step": "?", "kind": "unreadable line", "what": f"incidents.jsonl, line {number}"} for number in damaged]
    return Run(
        name=folder.resolve().name,
        config=read(folder / "config.yaml"),
        base=read(base) if base.is_file() else None,
        series=read_series(folder / "metrics.csv"),
        pictures=find_pictures(folder / "images"),
        incidents=incidents,
        sessions=read_sessions(folder / "sessions.jsonl"),
        records=find_records(folder),
    )


def read_series(path: Path) -> dict[str, list[tuple[int, float]]]:
    """`metrics.csv` by column; empty without the file.

    Raises:
        UserError: a cell that is not a number.
    """
    series: dict[str, list[tuple[int, float]]] = {}
    if not path.is_file():
        return series
    table = csv.DictReader(complete_lines(path))
    try:
        for row in table:
            step = int(row.pop("step"))
            for name, text in row.items():
                if text:
                    series.setdefault(name, []).append((step, float(text)))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}, line {table.line_num}: not a row of numbers that begins with a step ({error})") from error
    return series


def find_pictures(folder: Path) -> dict[str, list[tuple[int, Path]]]:
    """`step-<n>-<kind>.png` by kind."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in sorted(folder.glob("step-*-*.png")):
        digits, _, what = path.stem.removeprefix("step-").partition("-")
        if digits.isdigit():
            found.setdefault(what, []).append((int(digits), path))
    return {what: sorted(files) for what, files in sorted(found.items())}


def read_sessions(path: Path) -> list[dict[str, Any]]:
    """`sessions.jsonl`, without values of another type than training writes."""
    number = int | float
    types: dict[str, Any] = {"time": str, "device": str, "devices": int, "precision": str, "parameters": dict, "trained_parameters": int}
    types |= {"ema_decay": number | None, "price_per_hour": number | None}
    sessions: list[dict[str, Any]] = [
        {key: value for key, value in line.items() if isinstance(value, types.get(key, object))} for line in read_lines(path)[0]
    ]
    for session in sessions:
        session["parameters"] = {name: count for name, count in session.get("parameters", {}).items() if isinstance(count, int)}
    return sessions


def read_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """JSON objects, one per line, and the numbers of other lines: a killed run may leave half a line. Both empty without the file."""
    found: list[dict[str, Any]] = []
    damaged = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            content = json.loads(line) if line.strip() else {}
        except ValueError:
            content = None
        if not isinstance(content, dict):
            damaged.append(number)
        elif content:
            found.append(content)
    return found, damaged


def find_records(folder: Path) -> list[tuple[str, Record]]:
    """Every record of `scripts/evaluate.py` in a run folder, with the name of its file.

    Raises:
        UserError: a file of such a name that is not a file of records.
    """
    found = sorted(folder.rglob("*record*.json"))
    return [(str(path.relative_to(folder)), record) for path in found for record in read_records(path)]


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings and lists of mappings -> leaves by dotted path; other lists are leaves."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        return {path: value}
    leaves: dict[str, Any] = {}
    for key, item in value.items():
        leaves |= flat(item, f"{path}.{key}" if path else str(key))
    return leaves


ABSENT = "(absent)"


def differences(*configs: dict[str, Any]) -> list[tuple[str, list[Any]]]:
    """Dotted paths at which configs differ, with the value of each or `ABSENT`, in the order of the configs."""
    leaves = [flat(config) for config in configs]
    paths = dict.fromkeys(path for one in leaves for path in one)
    rows = [(path, [one.get(path, ABSENT) for one in leaves]) for path in paths]
    return [(path, values) for path, values in rows if any(value != values[0] for value in values)]


def last(values: list[float]) -> float:
    """The last finite value, NaN without one."""
    return next(filter(math.isfinite, reversed(values)), math.nan)
