"""One run of training: check, build everything, fit, and print the next command."""

import argparse
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from ldm.check import Report, check, sample_problems
from ldm.check.config import BEGINNING
from ldm.check.from_data import from_data
from ldm.check.from_first_stage import from_first_stage
from ldm.checkpoint.first_stage import first_stage_record, keep_first_stage
from ldm.checkpoint.foreign import FOREIGN
from ldm.cli.main import SEED
from ldm.cli.summary import final_message, resume_command
from ldm.config import AllowedTargets, Config, build, load, validate
from ldm.data.facts import Facts
from ldm.errors import MissingFile, UserError
from ldm.nn.files import NeedsFiles
from ldm.system.files import write_text
from ldm.system.lock import locked
from ldm.system.run_folder import newest_checkpoint
from ldm.training import DataModule, TrainerSettings
from ldm.training.callbacks.loggers import in_run
from ldm.training.confine import confined
from ldm.training.launch import RUN_FOLDER, ProcessGroup
from ldm.training.lightning_checks import callback_problems
from ldm.training.module import TrainingModule
from ldm.training.run import fit, new_folder, process_number, require_fit, seed_everything
from ldm.training.session import sizes


def train(
    flags: argparse.Namespace,
    config: Config,
    trust: AllowedTargets,
    state: dict[str, Any] | None,
    overrides: list[str],
    held: ExitStack,
    together: ProcessGroup | None,
) -> int:
    """Check, build everything, then fit. No folder is created before the check has passed; other processes wait for that."""
    if process_number() != 0:
        logging.getLogger().setLevel(logging.WARNING)  # only the first process logs
    if state is not None:
        ((config.data.get("model") or {}).get("params") or {}).pop("start", None)  # a resumed run has its own weights
    ready = checked(config, trust, flags, state)
    seed = int(config.data.setdefault("seed", SEED))
    config.source.setdefault("seed", seed)
    if state is not None and seed != state["seed"]:
        raise UserError(f"--seed {seed}: this run has seed {state['seed']}, and its data order and noise depend on it")
    seed_everything(seed)
    settings = ready.get("trainer") or build(config.data["trainer"], trust, "trainer")
    data = ready.get("data") or build(config.data["data"], trust, "data")
    module = build(config.data["model"], trust, "model")
    for thing, kind, path in ((settings, TrainerSettings, "trainer"), (data, DataModule, "data"), (module, TrainingModule, "model")):
        if not isinstance(thing, kind):
            raise UserError(f"{path}: expected a {kind.__name__}, got {type(thing).__name__}")
    settings.require_device()
    record_classes(config, data)
    if not ready and (wrong := sample_problems(data, module)[1]):
        raise UserError("the data does not fit the model:\n  " + "\n  ".join(wrong))
    prepare_weights(module)
    folder = held.enter_context(run_folder(flags, config))
    extra = config.data if state is None else confined(config, folder, trust)
    callbacks = build(extra.get("callbacks") or {}, trust, "callbacks").values()
    loggers = build(in_run(extra.get("loggers") or {}, folder, trust), trust, "loggers").values()
    metadata = {"config": config.data, "source": config.source, "first_stage": first_stage_of(module, folder, state, flags)}
    auto = settings.precision == "auto"
    settings, difference = settings.resolve_precision((state or {}).get("auto_precision"))
    if auto:
        metadata["auto_precision"] = settings.precision
    if process_number() == 0:
        if state is None:
            held.enter_context(locked(folder, str(folder)))
            record_base(folder, flags)
        keep_first_stage(module.stage(), folder)
        if together is not None:
            together.announce(str(folder))
    logging.info("run folder: %s", folder)
    logging.info("%s, seed %d, %s on %s", describe(module), seed, settings.precision, settings.device_type())
    if difference and process_number() == 0:
        logging.warning("note: %s", difference)
    note = " ".join([*flags.base, *overrides, f"({difference})" * bool(difference)])
    again = resume_command(folder, flags)
    if not fit(module, data, settings, folder, metadata, seed, state, callbacks, loggers, note, again, flags.price):
        logging.info("stopped at step %d of %d and saved; continue with\n  %s", module.step, settings.steps, again)
        return 130
    logging.info("%s", final_message(folder, module, data, config, flags, overrides))
    return 0


def checked(config: Config, trust: AllowedTargets, flags: argparse.Namespace, state: dict[str, Any] | None) -> dict[str, Any]:
    """Check the config in the first process, and whether the checkpoint fits; returns what was built for the check.

    Raises:
        UserError, MissingFile: all that is wrong or missing.
    """
    if flags.no_check or process_number() != 0:  # the first process checks for all
        report, ready = Report([*map(str, validate(config, trust)), *callback_problems(config.data, trust)]), {}
        if not report.problems:
            from_first_stage(config, trust)
            from_data(config, trust)
    else:
        report = check(config, trust)
        ready = report.built
    for kind, found, title in ((UserError, report.problems, "the config is wrong"), (MissingFile, report.missing, "files are missing")):
        if found:
            raise kind(f"{title}: {found[0]}" if len(found) == 1 else "\n  ".join([f"{title}:", *found]))
    if state is not None and report.state:  # before memory is allocated: an untrusted config may contain any size
        require_fit(state, report.state)
    for warning in report.warnings:
        if not warning.startswith(BEGINNING):  # logged when the weights are loaded
            logging.warning("warning: %s", warning)
    return ready


@contextmanager
def run_folder(flags: argparse.Namespace, config: Any) -> Iterator[Path]:
    """The resumed run's folder, or a new one; the latter is deleted if an error comes before anything was written to it."""
    if flags.resume or RUN_FOLDER in os.environ:
        yield newest_checkpoint(Path(flags.resume)).parent.parent if flags.resume else Path(os.environ[RUN_FOLDER])
        return
    folder = new_folder(Path(flags.logdir), str(flags.name or config.data.get("name") or Path(flags.base[0]).stem))
    os.environ[RUN_FOLDER] = str(folder)  # other processes of this run (DDP) inherit it
    try:
        yield folder
    except BaseException:
        with suppress(OSError):
            folder.rmdir()
        raise
    finally:
        os.environ.pop(RUN_FOLDER, None)


def record_base(folder: Path, flags: argparse.Namespace) -> None:
    """Write `base.yaml`: the config files without the command line's overrides, for the report to compare with."""
    try:
        base = load(flags.base, foreign=FOREIGN)
    except UserError:  # they are incomplete without the command line
        return
    base.data.setdefault("seed", SEED)
    write_text(folder / "base.yaml", base.to_yaml())


def record_classes(config: Config, data: DataModule) -> None:
    """`classes:` of the config: their names in the order of their indices, as the training set has them.

    Raises:
        UserError: other names than those of the resumed run, so that an index would mean another class.
    """
    names = Facts(data.train).class_names
    before = config.data.get("classes")
    for key, known in (before or {}).items():
        if key in names and names[key] != known:
            changed = sorted({*names[key]} ^ {*known}) or ["their order"]
            raise UserError(
                f"classes.{key}: the data has other classes than the run ({len(names[key])}, not {len(known)}: {', '.join(changed[:5])}), "
                "so their indices would mean something else: restore the data's folders, or start a new run with model.params.start"
            )
    if names:
        config.data["classes"] = config.source["classes"] = names | (before or {})


def first_stage_of(module: Any, folder: Path, state: dict[str, Any] | None, flags: argparse.Namespace) -> dict[str, str] | None:
    """The record of the frozen first stage, compared with that of the run that is resumed."""
    record = first_stage_record(module.stage(), folder)
    before = ((state or {}).get("first_stage") or {}).get("sha256")
    if record is not None and before not in (None, record["sha256"]) and not flags.allow_other_first_stage:
        raise UserError(
            f"{record['path']}: not the first stage this run was trained with (its SHA-256 differs); name the right one with "
            "--first-stage, or allow it with --allow-other-first-stage"
        )
    return record


def prepare_weights(module: Any) -> None:
    """Load what would otherwise be loaded in the first step, so that a missing file is reported before."""
    for part in module.modules():
        if isinstance(part, NeedsFiles):
            part.load()


def describe(module: Any) -> str:
    """ "network 4.19 M, conditioner 0.02 M parameters"."""
    return ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in sizes(module).items()) + " parameters"
