"""The report of one or several runs: one self-contained HTML file without scripts."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ldm.errors import UserError
from ldm.evaluation.curves import COLOURS, curve, drawable, logarithmic
from ldm.evaluation.facts import CHANNEL, MACHINE, side_by_side, title
from ldm.evaluation.names import short_names
from ldm.evaluation.page import Picture, data_uri, embed
from ldm.evaluation.page import render as render_page
from ldm.evaluation.record import NAMES, PROTOCOL, Record, given
from ldm.evaluation.record import shown as field
from ldm.evaluation.runs import Run, differences, last

INCIDENTS = 100  # shown per run
Lines = Mapping[str, Sequence[tuple[int, float]]]  # (step, value) by run


def render(runs: Sequence[Run], base: dict[str, Any] | None = None, grids: int = 6, price: float | None = None) -> str:
    """The report as HTML; all text from the runs is escaped.

    Args:
        runs: shown side by side.
        base: config to compare with; None is each run's own base.
        grids: number of pictures of each kind and run, spread over time.
        price: of one hour of all devices of a run; None is that of its training.

    Raises:
        UserError: a picture that cannot be read.
    """
    if len({run.name for run in runs}) < len(runs):
        raise UserError(f"runs must have different names, got {', '.join(run.name for run in runs)}")
    names, common = short_names([run.name for run in runs])
    shared, differing = side_by_side(runs, price)
    runs = [replace(run, name=name) for run, name in zip(runs, names, strict=True)]
    bases = [(run, base if base is not None else run.base) for run in runs]
    return render_page(
        "report.html",
        title=names[0] if len(runs) == 1 else f"Comparison of {len(runs)} runs",
        common=common,
        runs=runs,
        names=names,
        colours=COLOURS,
        pictures=pictures(runs, grids),
        shared=shared,
        differing=differing,
        metrics=metrics(runs),
        protocols=[(run, *protocol(file, record)) for run in runs for file, record in run.records],
        curves=curves(runs),
        between=[(path, *map(shown, values)) for path, values in differences(*(run.config for run in runs))],
        changes=[(run, None if b is None else changed(b, run.config)) for run, b in bases],
        channels=[(run, *channels(run)) for run in runs if channels(run)[1]],
        incidents=[(run, *incidents(run)) for run in runs],
        configs=[(run, yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)) for run in runs],
    )


def changed(base: dict[str, Any], config: dict[str, Any]) -> list[tuple[str, ...]]:
    """Key, value in the base and in the run; without the names of classes, which a run takes from its data."""
    named = {} if "classes" in config and "classes" in base else {"classes": config.get("classes")}
    return [(path, *map(shown, values)) for path, values in differences(base | named, config | named)]


def shown(value: Any) -> str:
    """A value of a config as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def metrics(runs: Sequence[Run]) -> list[tuple[str, str, list[str]]]:
    """Metric, protocol in short, and the value of each run; one row for each protocol."""
    rows: dict[str, dict[str, list[Record]]] = {}
    for run in runs:
        for _, record in run.records:
            key = json.dumps([getattr(record, name) for name in PROTOCOL], sort_keys=True)
            rows.setdefault(key, {}).setdefault(run.name, []).append(record)
    found = []
    for by_run in rows.values():
        one = next(iter(by_run.values()))[0]
        parts = [f"{one.samples:,} samples", one.extractor, one.sampler, f"{one.steps} steps" if one.steps else ""]
        parts += [f"scale {one.scale:g}" if one.scale else ""]
        found.append((one.metric, ", ".join(filter(None, parts)), ["; ".join(map(value, by_run.get(run.name, []))) or "-" for run in runs]))
    return found


def value(record: Record) -> str:
    """A value with its spread."""
    return field(record.value) + ("" if record.spread is None else f" ± {field(record.spread)}")


def protocol(file: str, record: Record) -> tuple[str, list[tuple[str, str]]]:
    """A record: its value in one line, and all fields."""
    known = [name for name in NAMES if name not in ("metric", "value", "spread") and given(record, name)]
    unknown = [name for name in NAMES if name != "spread" and getattr(record, name) is None]
    rows = [("file", file), *((name, field(getattr(record, name))) for name in known)]
    return f"{record.metric}: {value(record)} ({record.samples} samples)", [*rows, ("unknown", ", ".join(unknown))] if unknown else rows


def channels(run: Run) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of numbers per channel."""
    found: dict[str, dict[int, float]] = {}
    for name in run.series:
        if hit := CHANNEL.fullmatch(name):
            found.setdefault(hit[1], {})[int(hit[2])] = last(run.values(name))
    count = max((max(values) + 1 for values in found.values()), default=0)
    rows = [[str(i), *(f"{values[i]:.3g}" if i in values else "" for values in found.values())] for i in range(count)]
    return ["channel", *(name.replace("_", " ") for name in found)], rows


def incidents(run: Run) -> tuple[list[tuple[str, int]], list[tuple[str, str, str]], int]:
    """Counts by kind, the incidents themselves, and how many are left out."""
    counts = Counter(str(one.get("kind", "?")) for one in run.incidents)
    rows = [tuple(shown(one.get(key, "?")) for key in ("step", "kind", "what")) for one in run.incidents]
    # rare kinds first: a thousand unreadable files must not hide one warning
    rare = sorted(range(len(rows)), key=lambda i: (counts[rows[i][1]], i))[:INCIDENTS]
    return counts.most_common(), [rows[i] for i in sorted(rare)], max(0, len(rows) - INCIDENTS)  # type: ignore[misc]


def pictures(runs: Sequence[Run], grids: int) -> list[tuple[str, list[tuple[Run, list[Picture], int]]]]:
    """By kind and run: some of the pictures in order, and how many are left out."""
    kinds = dict.fromkeys(kind for run in runs for kind in run.pictures)
    return [(kind, [(run, *spread(run.pictures.get(kind, []), grids)) for run in runs]) for kind in kinds]


def spread(files: Sequence[tuple[int, Path]], count: int) -> tuple[list[Picture], int]:
    """`count` pictures spread over time, and the number of those left out; only one of pictures that never change, such as inputs."""
    if len({path.read_bytes() for _, path in files}) == 1:
        return [embed(files[-1][1], files[-1][0])], 0
    numbers = np.linspace(len(files) - 1, 0, min(count, len(files))).round()[::-1]  # one is the last
    chosen = [files[int(i)] for i in numbers]
    return [embed(path, step) for step, path in chosen], len(files) - len(chosen)


def curves(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """A chart of all runs per number, as data URI, losses first; numbers that are always equal have one, those of channels a table."""
    names = [
        name for name in dict.fromkeys(name for run in runs for name in run.series) if not CHANNEL.fullmatch(name) and name != "seconds"
    ]
    charts: dict[str, tuple[Lines, Lines, list[str]]] = {}
    for name in sorted(names, key=order):
        if name.startswith("validation_") and name.removeprefix("validation_") in names:
            continue  # dashed in the chart of the training
        solid, dashed = (lines(runs, key) if key in names else {} for key in (name, f"validation_{name}"))
        charts.setdefault(str(solid), (solid, dashed, []))[2].append(name)
    found, until = [], max(run.steps for run in runs)
    for solid, dashed, same in charts.values():
        values = [value for some in (solid, dashed) for points in some.values() for _, value in drawable(points)]
        if values:
            of_machine = same[0] in MACHINE
            text = " = ".join(map(title, same)) + " (dashed: validation)" * bool(dashed)
            text += ", logarithmic" * (logarithmic(values) and not of_machine)
            found.append((text, data_uri("svg+xml", curve(solid, dashed, until, from_zero=of_machine).encode())))
    return found


def lines(runs: Sequence[Run], name: str) -> Lines:
    """A number of all runs."""
    return {run.name: run.series.get(name, []) for run in runs}


def order(name: str) -> int:
    """The place of a chart: losses, validation, others, learning rates, the machine."""
    kinds = ("loss" in name, name.startswith("validation_"), name not in MACHINE and not name.startswith("lr"), name.startswith("lr"), True)
    return kinds.index(True)
