"""Every task of the paper in ten minutes each: train, measure, and write a page. Finished tasks are kept."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from demos.conditions import measure_caption, measure_class, measure_layout, measure_semantic
from demos.measured import Measured
from demos.restoration import measure_inpaint, measure_superres
from demos.run import load_run, setting, train, train_once
from ldm.checkpoint.load import LoadedModel
from ldm.cli.job import output_folder
from ldm.config import literal
from ldm.errors import UserError
from ldm.evaluation.page import write_page
from ldm.system.files import write_text

SCENES, PICTURES = "text-first-stage", "pictures-first-stage"


@dataclass(frozen=True)
class Task:
    """Title, config of the first stage, and what measures the task: (model, folder, number of samples)."""

    title: str
    first_stage: str
    measure: Callable[[LoadedModel, Path, int], Measured]


TASKS = {
    "class": Task("Class to image", SCENES, measure_class),
    "text": Task("Text to image", SCENES, measure_caption),
    "layout": Task("Layout to image", SCENES, measure_layout),
    "semantic": Task("Semantic map to image", SCENES, measure_semantic),
    "superres": Task("Super-resolution", PICTURES, measure_superres),
    "inpaint": Task("Inpainting", PICTURES, measure_inpaint),
}
# Longer than ten minutes, only with `--only`.
LONGER = {"inpaint-long": Task("Inpainting, trained longer", PICTURES, partial(measure_inpaint, name="inpaint-long"))}
ALL = TASKS | LONGER
INTRO = (
    "Each model was trained on this machine from a YAML file, at 32x32 pixels, within minutes. Conditions are held out: no model "
    "has seen these scenes or these parts of the photographs. LPIPS and the patch discriminator are disabled, because their weights "
    "would have to be downloaded."
)


def run_tasks(flags: argparse.Namespace) -> int:
    """Run the tasks that are missing and write the summary; returns the exit code."""
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
    """Record of a finished task or first stage."""
    return outdir / f"{name}.json"


def refuse_others(outdir: Path, name: str, flags: argparse.Namespace) -> None:
    """Refuse a folder whose finished tasks have other settings than this command line: one summary would mix both.

    Raises:
        UserError: overrides or the number of samples differ.
    """
    for kind in (ALL[name].first_stage, name):
        found = read(record_file(outdir, kind))
        earlier = found | found.get("others", {})
        for key, here in (("overrides", flags.overrides), ("asked_samples", flags.n)):
            if earlier.get(key, here) != here:
                what = f"{kind} was made with {key.replace('_', ' ')} {earlier[key]}, not {here}"
                raise UserError(f"--outdir {outdir}: {what}: name another folder, or add --again")


def coming(tasks: list[str], outdir: Path) -> list[str]:
    """All trainings of these tasks, including the first stages that are missing."""
    stages = {ALL[name].first_stage for name in tasks}
    return [*tasks, *sorted(stage for stage in stages if not record_file(outdir, stage).is_file())]


def read(file: Path) -> dict[str, Any]:
    """A record, empty if there is none."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def run_task(name: str, outdir: Path, flags: argparse.Namespace, then: list[str]) -> dict[str, Any]:
    """Train the second stage, and its first stage if that is missing; measure; the record. `then` are the tasks after it."""
    stage, logs = ALL[name].first_stage, outdir / "logs"
    if read(record_file(outdir, stage)).get("overrides", flags.overrides) != flags.overrides:
        record_file(outdir, stage).unlink()
    others = [part for part in coming([name, *then], outdir) if part != stage]
    first, first_seconds = train_once(record_file(outdir, stage), stage, logs, flags.overrides, others)
    run, seconds = train(name, logs, [*flags.overrides, f"paths.first_stage={literal(str(first))}"], coming(then, outdir))
    loaded, begun = load_run(run), time.perf_counter()
    record = ALL[name].measure(loaded, outdir, flags.n).record()
    record["training_seconds"] = round(seconds, 1)
    record["others"] |= {
        "first_stage": stage,
        "first_stage_seconds": first_seconds,
        "sampling_and_measuring_seconds": round(time.perf_counter() - begun, 1),
        "asked_samples": flags.n,
        "overrides": flags.overrides,
        **setting(loaded),
        "run": str(run),
    }
    return record


def summarise(outdir: Path) -> None:
    """Write summary and page of all finished tasks."""
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
    runs = {ALL[name].title: Path(record["others"]["run"]) for name, record in records.items()}
    write_page(outdir / "index.html", "Every task of the paper at small scale", INTRO, rows, pictures, runs)
