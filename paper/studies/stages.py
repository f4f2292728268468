"""The trainings of the compression study, one after the other; finished ones are kept, stopped ones are continued."""

from pathlib import Path

from demos.run import finished, train_once
from ldm.errors import MissingFile
from paper.studies.settings import CHECKPOINTS, Study


def stage_names(study: Study) -> list[str]:
    """Configs of configs/demo/compression, in the order of training."""
    return [f"first-stage-{f}" for f in study.factors if f > 1] + [f"ldm-{f}" for f in study.factors]


def record_file(outdir: Path, name: str) -> Path:
    """Record of a finished stage."""
    return outdir / "stages" / f"{name}.json"


def finished_stage(outdir: Path, name: str) -> tuple[Path, float] | None:
    """Run folder and seconds of a finished stage; None if it is not finished."""
    return finished(record_file(outdir, name), outdir / "logs")


def run_of(outdir: Path, name: str) -> Path:
    """Run folder of a finished stage.

    Raises:
        MissingFile: it is not finished.
    """
    found = finished_stage(outdir, name)
    if found is None:
        raise MissingFile(f"{record_file(outdir, name)}: stage {name} of the study is not finished")
    return found[0]


def changes(outdir: Path, name: str, study: Study) -> list[str]:
    """Overrides of a stage."""
    kind, factor = name.rsplit("-", 1)
    if kind == "first-stage":
        return [f"trainer.params.steps={study.first_steps}", *study.overrides]
    limit = [f"trainer.params.max_seconds={study.seconds}", f"trainer.params.checkpoint_seconds={study.seconds / CHECKPOINTS}"]
    first = [] if factor == "1" else [f"paths.first_stage={run_of(outdir, f'first-stage-{factor}')}"]
    return [*limit, *first, *study.overrides]


def train_stage(outdir: Path, name: str, study: Study) -> float:
    """Train a stage if it is not finished; the seconds it took.

    Raises:
        UserError: training failed or was stopped.
    """
    record = record_file(outdir, name)
    return train_once(record, f"compression/{name}", outdir / "logs", changes(outdir, name, study), resume=True)[1]
