"""The trainings of the compression study, one after the other; what is finished is kept, what was cut off is continued."""

import json
import shutil
from pathlib import Path
from typing import Any

from demos.run import run_main, runs_of, train
from ldm.errors import MissingFile
from ldm.system.files import newest_checkpoint, write_text
from paper.studies.settings import CHECKPOINTS, Study


def stage_names(study: Study) -> list[str]:
    """Configs of configs/demo/compression, in the order of training."""
    return [f"first-stage-{f}" for f in study.factors if f > 1] + [f"ldm-{f}" for f in study.factors]


def note(outdir: Path, name: str) -> Path:
    """Where it is written down that a stage is finished."""
    return outdir / "stages" / f"{name}.json"


def finished(outdir: Path, name: str) -> dict[str, Any] | None:
    """The run folder of a finished stage and the seconds of its command; none if it is not."""
    file = note(outdir, name)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def run_of(outdir: Path, name: str) -> Path:
    """The run folder of a finished stage.

    Raises:
        MissingFile: it is not finished.
    """
    found = finished(outdir, name)
    if found is None:
        raise MissingFile(f"{note(outdir, name)}: stage {name} of the study is not finished")
    return outdir / found["run"]


def changes(outdir: Path, name: str, study: Study) -> list[str]:
    """What the command line says about a stage."""
    kind, factor = name.rsplit("-", 1)
    if kind == "first-stage":
        return [f"trainer.params.steps={study.first_steps}", *study.overrides]
    limit = [f"trainer.params.max_seconds={study.seconds}", f"trainer.params.checkpoint_seconds={study.seconds / CHECKPOINTS}"]
    first = [] if factor == "1" else [f"paths.first_stage={run_of(outdir, f'first-stage-{factor}').resolve()}"]
    return [*limit, *first, *study.overrides]


def train_stage(outdir: Path, name: str, study: Study) -> None:
    """Train a stage, unless that is done; a run that was cut off goes on from its last checkpoint.

    Raises:
        UserError: training failed or was stopped.
    """
    if finished(outdir, name) is not None:
        return
    logs = outdir / "logs"
    begun = runs_of(name, logs)
    if begun and resumable(begun[-1]):
        run, seconds = begun[-1], run_main(["--resume", str(begun[-1])], name)
    else:
        for run in begun:  # without a checkpoint: nothing to go on from
            shutil.rmtree(run)
        run, seconds = train(f"compression/{name}", logs, changes(outdir, name, study))
    record = {"run": str(run.relative_to(outdir.resolve())), "command_seconds": round(seconds, 1)}
    write_text(note(outdir, name), json.dumps(record, indent=2) + "\n")


def resumable(run: Path) -> bool:
    """Whether a run has a checkpoint to go on from."""
    try:
        newest_checkpoint(run)
    except MissingFile:
        return False
    return True
