"""Train and measure every task in turn; what is finished is kept."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from demos.run import load_run, setting, train
from demos.tasks import LONGER, TASKS
from ldm.cli.job import output_folder
from ldm.config import literal
from ldm.errors import UserError
from ldm.evaluation.page import write_page
from ldm.system.files import write_text

ALL = TASKS | LONGER
INTRO = (
    "Each model was trained on this machine from a YAML file, at 32x32 pixels, within minutes. Conditions are held out: no model "
    "saw these scenes or these parts of the photographs. LPIPS and the patch discriminator are switched off: their weights would be "
    "a download."
)


def run_tasks(flags: argparse.Namespace) -> int:
    """Run what is missing and write the summary; returns the exit code."""
    wanted = flags.only.split(",")
    outdir = output_folder(flags.outdir)
    if not flags.again:
        for name in filter(wanted.__contains__, ALL):
            refuse_others(outdir, name, flags)
    todo = [name for name in ALL if name in wanted and (flags.again or not record_file(outdir, name).is_file())]
    for number, name in enumerate(todo):
        write_text(record_file(outdir, name), json.dumps(run_task(name, outdir, flags, todo[number + 1 :]), indent=2) + "\n")
        summarise(outdir)
    summarise(outdir)
    sys.stdout.write(f"see {outdir / 'index.html'} and {outdir / 'summary.json'}\n")
    return 0


def record_file(outdir: Path, name: str) -> Path:
    """Where the record of a finished task or first stage lies."""
    return outdir / f"{name}.json"


def refuse_others(outdir: Path, name: str, flags: argparse.Namespace) -> None:
    """Whether what is finished of a task was made as this command line would make it.

    Raises:
        UserError: it was not; keeping it would put numbers of two kinds into one summary.
    """
    for kind in (ALL[name].first_stage, name):
        found = read(record_file(outdir, kind))
        made = found | found.get("others", {})
        for key, here in (("overrides", flags.overrides), ("asked_samples", flags.n)):
            if made.get(key, here) != here:
                what = f"{kind} was made with {key.replace('_', ' ')} {made[key]}, not {here}"
                raise UserError(f"--outdir {outdir}: {what}: name another folder, or add --again")


def coming(tasks: list[str], outdir: Path) -> list[str]:
    """All trainings of these tasks, their first stages among them where they are not there yet."""
    stages = {ALL[name].first_stage for name in tasks}
    return [*tasks, *sorted(stage for stage in stages if not record_file(outdir, stage).is_file())]


def read(file: Path) -> dict[str, Any]:
    """A record, empty where there is none."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def run_task(name: str, outdir: Path, flags: argparse.Namespace, then: list[str]) -> dict[str, Any]:
    """Train the second stage, and the first if no task before has; measure; the record. `then` are the tasks after it."""
    first, first_seconds = first_stage(ALL[name].first_stage, outdir, flags, [name, *then])
    run, seconds = train(name, outdir / "logs", [*flags.overrides, f"paths.first_stage={literal(first)}"], then=coming(then, outdir))
    loaded, begun = load_run(run), time.perf_counter()
    record = ALL[name].measure(loaded, outdir, flags.n).record()
    record["training_seconds"] = round(seconds, 1)
    record["others"] |= {
        "first_stage": ALL[name].first_stage,
        "first_stage_seconds": first_seconds,
        "sampling_and_measuring_seconds": round(time.perf_counter() - begun, 1),
        "asked_samples": flags.n,
        "overrides": flags.overrides,
        **setting(loaded),
        "run": str(run),
    }
    return record


def first_stage(name: str, outdir: Path, flags: argparse.Namespace, then: list[str]) -> tuple[str, float]:
    """The run of a first stage and the seconds that it took; trained once for all tasks that share it, and again if it is gone."""
    found = read(record_file(outdir, name))
    if not found or found.get("overrides", flags.overrides) != flags.overrides or not Path(found["run"]).is_dir():
        run, seconds = train(name, outdir / "logs", flags.overrides, then=[part for part in coming(then, outdir) if part != name])
        found = {"run": str(run), "training_seconds": round(seconds, 1), "overrides": flags.overrides}
        write_text(record_file(outdir, name), json.dumps(found) + "\n")
    return found["run"], found["training_seconds"]


def summarise(outdir: Path) -> None:
    """The summary and the page of all tasks that are finished."""
    records = {name: found for name in ALL if (found := read(record_file(outdir, name)))}
    write_text(outdir / "summary.json", json.dumps(records, indent=2) + "\n")
    rows: list[tuple[str, str, str]] = []
    pictures: dict[str, Path] = {}
    for name, record in records.items():
        better = "higher" if record["higher_is_better"] else "lower"
        how = f"{record['metric']}; {better} is better; baseline {record['baseline']:.3f}: {record['baseline_is']}"
        rows.append((ALL[name].title, f"{record['value']:.3f}", f"{how}; stage two trained in {record['training_seconds']:.0f} s"))
        pictures |= {caption: outdir / file for caption, file in record["pictures"].items()}
        sys.stdout.write(f"{name:<14}{record['value']:<9.3f}baseline {record['baseline']:<9.3f}{better} is better\n")
    write_page(outdir / "index.html", "Every task of the paper in small", INTRO, rows, pictures)
