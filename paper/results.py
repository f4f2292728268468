"""Values of a row next to the printed ones, each with how it was measured or why it was not."""

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ldm.checkpoint.read import read_source
from ldm.errors import UserError
from ldm.evaluation.record import Record, read_records
from ldm.system.files import writing
from ldm.system.weights import fingerprint
from paper.commands import Command, commands
from paper.cost import training_costs
from paper.needs import OwnPaths, own_model
from paper.sizes import config_of, counts
from paper.speed import Speeds, printed_ratio
from paper.tables import Row, Table

ROOT = Path(__file__).resolve().parents[1]
COMPUTE = ("generator_compute", "classifier_compute", "overall_compute")
SETTINGS = {
    "width": "model.params.model.params.network.params.width",
    "batch": "data.params.batch_size",
    "iterations": "trainer.params.steps",
    "lr": "model.params.optimizer.params.lr",
}
Execute = Callable[[Command], None]


@dataclass(frozen=True)
class TableValue:
    """One number of a row.

    Attributes:
        name: as printed.
        paper: the printed value; None if the paper has a curve.
        ours: our value; None if it was not run.
        how: how it was measured, or why it was not.
        unit: "x" for ratios.
        spread: lowest and highest over rounds, if it was timed.
        paper_std: printed standard deviation.
        samples: number of samples, if fewer than in the protocol.
    """

    name: str
    paper: float | None
    ours: float | None
    how: str
    unit: str = ""
    spread: tuple[float, float] | None = None
    paper_std: float | None = None
    samples: int = 0

    @property
    def gap(self) -> float | None:
        """Our value minus the paper's."""
        return None if self.ours is None or self.paper is None else self.ours - self.paper


def values(table: Table, row: Row, own: OwnPaths, speeds: Speeds | None, execute: Execute) -> list[TableValue]:
    """All numbers of a row: counted, read from its config, timed, measured, or not run."""
    found = []
    for name, paper in row.paper.items():
        if name.endswith("_std"):
            continue
        if name == "n_params_M":
            parts = {part: count / 1e6 for part, count in counts(row).items()}
            how = "counted at full size: " + " + ".join(f"{part} {count:.2f}" for part, count in parts.items())
            found.append(TableValue(name, paper, sum(parts.values()), how))
        elif name in SETTINGS and table.protocol.name == "sizes":
            found.append(TableValue(name, paper, float(_at(config_of(row.config).data, SETTINGS[name])), f"configs/{row.config}.yaml"))
        elif name in COMPUTE:
            costs = "; ".join(cost.text() for cost in training_costs(row))
            found.append(TableValue(name, paper, None, f"not run: a training of {costs}"))
        elif name in table.speed.get("columns", {}):
            found.append(_speed(table, row, name, speeds))
    return [*found, *_quality(table, row, own, execute)]


def _at(tree: Any, path: str) -> Any:
    for key in path.split("."):
        tree = tree[key]
    return tree


def _speed(table: Table, row: Row, column: str, speeds: Speeds | None) -> TableValue:
    """A speed as a ratio to the table's reference row."""
    baseline = table.find(table.speed["baseline"])
    paper = printed_ratio(column, row, baseline)
    label = f"{column}, times {baseline.row}'s"
    if speeds is None or row.row not in speeds.seconds.get(column, {}):
        return TableValue(label, paper, None, "not run: speed was not requested", "x")
    ours = speeds.ratio(column, row.row, baseline.row)
    shape = "; the shape is our choice, the paper states none" if "chosen" in (row.shape, baseline.shape) else ""
    speed = f"{speeds.images_per_second(column, row.row):.3g} images/s, the paper's {row.paper[column]:g}"
    speed = f"hours per epoch from the time of a training step; the paper's {row.paper[column]:g} h" if "hours" in column else speed
    size = f"network of {speeds.parameters[row.row]:.1f} M"
    return TableValue(label, paper, ours.median, f"median of {ours.rounds} rounds; {speed}; {size}{shape}", "x", (ours.low, ours.high))


def _quality(table: Table, row: Row, own: OwnPaths, execute: Execute) -> list[TableValue]:
    """Values that need samples: measured if all files exist, or read if they were measured before."""
    found: list[TableValue] = []
    finished: dict[Command, str] = {}
    sampled: tuple[Command, ...] = ()
    for command in commands(table, row, own):
        if command.does == "sample":
            sampled = (command,)
        if command.record is None:
            continue
        reason = "" if command.record.is_file() else _run((*sampled, command), finished, execute)
        found += [_measured(table, row, own, command, printed, name, reason) for printed, name in command.names]
    return found


def _run(steps: Sequence[Command], finished: dict[Command, str], execute: Execute) -> str:
    """Run steps that were not tried yet; returns the reason if that fails, else "". `finished` has the results of earlier steps."""
    if missing := dict.fromkeys(str(need.path) for step in steps for need in step.needs if not need.there):
        return "not run: missing " + ", ".join(missing)
    for step in steps:
        if step not in finished:
            try:
                execute(step)
                finished[step] = ""
            except UserError as error:
                finished[step] = f"not run: {error}"
        if finished[step]:
            return finished[step]
    return ""


def _measured(table: Table, row: Row, own: OwnPaths, command: Command, printed: str, name: str, reason: str) -> TableValue:
    assert command.record is not None
    label = f"{printed}, {command.record.parent.name.replace('-', ' ')}" if table.points else printed
    paper, std = row.paper.get(printed), row.paper.get(f"{printed}_std")
    record = None if reason else find_record(command.record, name)
    if record is None:
        return TableValue(label, paper, None, reason or f"not run: {command.record} has no {name}", paper_std=std)
    if reason := _of_another_model(record, own_model(row, own)):
        return TableValue(label, paper, None, f"not run: {command.record} {reason}; remove {command.record.parent}", paper_std=std)
    count = record.samples
    fewer = f", the protocol has {command.samples}" if command.samples not in (0, count) else ""
    how = f"{record.metric}, {count} samples{fewer}; {command.record}"
    return TableValue(label, paper, record.value, how, paper_std=std, samples=count if fewer else 0)


def _of_another_model(record: Record, model: Path) -> str:
    """Why a record is not of a row's current model; if the model is missing, the record is accepted."""
    measured = record.checkpoint
    if measured is None or not model.exists():
        return ""
    try:
        now = _hash(model)
    except UserError as error:
        return f"cannot be compared with the model ({error})"
    return "" if measured == now else f"is of other weights than {model} has now (SHA-256 {measured[:12]}..., now {now[:12]}...)"


@cache
def _hash(model: Path) -> str:
    """SHA-256 of the weights that the sampling scripts use of a file or run folder."""
    return fingerprint(read_source(str(model)).weights.chosen())


def find_record(path: Path, name: str) -> Record | None:
    """The record of a metric in a file of scripts/evaluate.py: FID is "FID", not "FD (demo features)".

    Raises:
        UserError: it is another file.
    """
    hits = [one for one in read_records(path) if re.match(rf"{re.escape(name)}\b", one.metric, flags=re.I)]
    return max(hits, key=lambda one: "adm" in one.metric.lower()) if hits else None


def execute(command: Command) -> None:
    """Run a command in the repository; at a terminal its progress and errors are shown.

    Raises:
        UserError: it failed.
    """
    if not (ROOT / command.words[0]).is_file():
        raise UserError(f"{command.words[0]} is not in this installation")
    if command.record is not None:
        with writing(command.record):
            command.record.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.write(f"{command.text()}\n")
    words = [sys.executable, str(ROOT / command.words[0]), *command.words[1:]]
    caught = None if sys.stderr.isatty() else subprocess.PIPE  # a progress bar needs the terminal itself
    done = subprocess.run(words, stderr=caught, text=True, check=False)
    if done.returncode:
        last = ((done.stderr or "").strip().splitlines() or ["see its message above" if caught is None else "no message"])[-1]
        raise UserError(f"{command.words[0]} ended with {done.returncode}: {last}")


def as_json(table: Table, found: dict[str, list[TableValue]], speeds: Speeds | None) -> dict[str, Any]:
    """All results, for --json."""
    rows = {name: [{**asdict(value), "gap": value.gap} for value in some] for name, some in found.items()}
    return {"what": table.number, "protocol": table.protocol.text, "rows": rows, "speeds": None if speeds is None else asdict(speeds)}
