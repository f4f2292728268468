"""Train a latent diffusion model from YAML, or check a config before any device starts."""

import argparse
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Any

EXAMPLES = """
examples
  check a config, without a GPU and without training
    python main.py --base configs/ldm/celebahq-ldm4.yaml --check
  stage one, then stage two on top of it
    python main.py --base configs/demo/digits-first-stage.yaml --train
    python main.py --base configs/demo/digits.yaml --train paths.first_stage=logs/<stage one's run>
  change a value; merge two configs, the later one wins
    python main.py --base a.yaml b.yaml --train data.params.batch_size=32 trainer.params.devices=2
  continue a run that was stopped
    python main.py --resume logs/<run>

exit codes: 0 all is well; 2 a wrong config, flag or file; 3 only files that the config names are missing;
130 stopped by Ctrl-C (the run was saved)
"""


RUN_FOLDER = "LDM_RUN_FOLDER"
SEED = 23
FIRST_STAGE = "model.params.model.params.first_stage.params.checkpoint"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    p.add_argument("-b", "--base", nargs="+", action="extend", default=[], metavar="YAML", help="configs, merged left to right")
    p.add_argument("-t", "--train", action="store_true", help="train")
    p.add_argument("-r", "--resume", metavar="RUN", help="continue a run folder (or one of its checkpoints) with its own config")
    p.add_argument("-n", "--name", help="name of the run; the first config's name without it")
    p.add_argument("-s", "--seed", type=int, help=f"of weights, data order and noise (default: the config's, else {SEED})")
    p.add_argument("-l", "--logdir", default="logs", metavar="DIR", help="where run folders go (default: logs)")
    p.add_argument("--check", action="store_true", help="validate, count parameters, read a batch, run one narrow step; no training")
    p.add_argument("--json", metavar="FILE", help="with --check: write the findings there as well")
    p.add_argument("--print-config", action="store_true", help="show the merged, resolved config and end")
    p.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help="let configs name classes of this package too")
    p.add_argument("--first-stage", metavar="FILE", help="use this first stage (run folder or weights) instead of the config's")
    p.add_argument("--allow-other-first-stage", action="store_true", help="with --resume: accept another one than in training")
    p.add_argument("--gpus", metavar="LIST", help="old form of trainer.params.devices")
    p.add_argument("overrides", nargs="*", metavar="key.sub=value", help="changes to the config, after all files")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    words = sys.argv[1:] if arguments is None else arguments
    flags = parser().parse_intermixed_args(words)
    # `--base a.yaml key=value`: what follows --base is only a file if it does not look like an override.
    overrides = [w for w in flags.base if "=" in w and not Path(w).is_file()] + flags.overrides
    flags.base = [w for w in flags.base if w not in overrides]
    if stray := [w for w in flags.overrides if "=" not in w]:
        sys.stderr.write(f"error: {stray[0]!r}: expected key.sub=value (configs go behind --base)\n")
        return 2
    if flags.gpus is not None:
        sys.stderr.write("note: --gpus is an alias; use trainer.params.devices=...\n")
        overrides.append(f"trainer.params.devices={gpu_list(flags.gpus)}")
    from ldm.errors import UserError  # torch is only imported once the words make sense

    try:
        return run(flags, overrides)
    except UserError as error:
        # One from a loader's process carries that process's stack trace; its last line is the message.
        text = str(error).rstrip().rpartition("UserError: ")[2] if "Original Traceback" in str(error) else str(error)
        sys.stderr.write(f"error: {text}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    except OSError as error:  # no permission, disk full: the message names the file
        sys.stderr.write(f"error: {error}\n")
        return 2


def gpu_list(text: str) -> str:
    """ "0,1" or "0," -> "[0, 1]"; "2" -> 2 devices."""
    return f"[{','.join(part for part in text.split(',') if part)}]" if "," in text else text


def run(flags: argparse.Namespace, overrides: list[str]) -> int:
    """Load the config, then do the one thing that was asked for."""
    from ldm.config import Trust, load
    from ldm.errors import UserError
    from ldm.files import newest_checkpoint, read_checkpoint
    from ldm.interop.compvis import FOREIGN
    from ldm.portable import pin_first_stage

    trust = Trust(tuple(flags.trust))
    state = None
    if flags.json and not flags.check:
        raise UserError("--json goes with --check")
    if flags.resume:
        checkpoint = newest_checkpoint(Path(flags.resume))
        state = read_checkpoint(checkpoint)
        if flags.name:
            raise UserError("--name: a resumed run keeps its folder and its name")
        if checkpoint.parent.name != "checkpoints":
            raise UserError(f"--resume {flags.resume}: lies in no run folder (expected RUN/checkpoints/{checkpoint.name})")
        if not flags.first_stage:
            pin_first_stage(state, checkpoint, overrides)
    elif not flags.base:
        raise UserError("no config: give --base CONFIG.yaml (or --resume RUN); --help shows examples")
    if flags.first_stage:
        overrides = [*overrides, f"{FIRST_STAGE}={flags.first_stage}"]
    if flags.seed is not None:
        overrides = [*overrides, f"seed={flags.seed}"]
    config = load(flags.base, overrides, None if state is None else state["source"], foreign=FOREIGN)
    if flags.print_config:
        sys.stdout.write(config.to_yaml())
        return 0
    if flags.check:
        from ldm.check import check

        report = check(config, trust)
        sys.stdout.write(report.text() + "\n")
        if flags.json:
            report.write(Path(flags.json))
        return report.exit_code
    if not flags.train and state is None:
        raise UserError("nothing to do: add --train, --check or --print-config")
    return train(flags, config, trust, state, overrides)


def train(flags: argparse.Namespace, config: Any, trust: Any, state: dict[str, Any] | None, overrides: list[str]) -> int:
    """Build everything, then fit."""
    import pytorch_lightning as pl
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    from ldm.check import sample_problems
    from ldm.config import build, validate
    from ldm.errors import UserError
    from ldm.training import DataModule, TrainerSettings
    from ldm.training.module import TrainingModule
    from ldm.training.run import extras, fit

    if problems := [*map(str, validate(config, trust)), *extras(config.data, trust)]:
        raise UserError("the config is wrong:\n  " + "\n  ".join(problems))
    seed = int(config.data.setdefault("seed", SEED))
    config.source.setdefault("seed", seed)
    if state is not None and seed != state["seed"]:
        raise UserError(f"--seed {seed}: this run has seed {state['seed']}, and its data order and noise depend on it")
    pl.seed_everything(seed, verbose=False)
    if state is not None:
        config.data["model"]["params"].pop("start", None)  # a resumed run has its own weights
    settings = build(config.data["trainer"], trust, "trainer")
    data = build(config.data["data"], trust, "data")
    module = build(config.data["model"], trust, "model")
    for thing, kind, path in ((settings, TrainerSettings, "trainer"), (data, DataModule, "data"), (module, TrainingModule, "model")):
        if not isinstance(thing, kind):
            raise UserError(f"{path}: expected a {kind.__name__}, got {type(thing).__name__}")
    settings.require_device()
    if wrong := sample_problems(data, module)[1]:
        raise UserError("the data does not fit the model:\n  " + "\n  ".join(wrong))
    prepare_weights(module)
    folder = run_folder(flags, config)
    metadata = {"config": config.data, "source": config.source, "first_stage": first_stage_of(module, folder, state, flags)}
    if rank_zero_only.rank != 0:
        logging.getLogger().setLevel(logging.WARNING)  # one process speaks for all
    elif state is None:
        record_base(folder, flags)
    logging.info("run folder: %s", folder)
    logging.info("%s, seed %d, %s on %s", describe(module), seed, settings.resolved_precision(), settings.device_type())
    callbacks = build(config.data.get("callbacks") or {}, trust, "callbacks").values()
    loggers = build(config.data.get("loggers") or {}, trust, "loggers").values()
    try:
        done = fit(module, data, settings, folder, metadata, seed, state, callbacks, loggers, " ".join([*flags.base, *overrides]))
    finally:
        os.environ.pop(RUN_FOLDER, None)
    if not done:
        again = f"python main.py --resume {shlex.quote(str(folder))}"
        logging.info("stopped at step %d of %d and saved; continue with\n  %s", module.step, settings.steps, again)
        return 130
    logging.info("%s", farewell(folder, module))
    return 0


def run_folder(flags: argparse.Namespace, config: Any) -> Path:
    """The resumed run's folder, or a new one."""
    from ldm.files import newest_checkpoint
    from ldm.training.run import new_folder

    if flags.resume:
        return newest_checkpoint(Path(flags.resume)).parent.parent
    name = str(flags.name or config.data.get("name") or Path(flags.base[0]).stem)
    # A second process of the same run (DDP) inherits the first one's environment, and so finds its folder.
    return Path(os.environ.setdefault(RUN_FOLDER, str(new_folder(Path(flags.logdir), name))))


def record_base(folder: Path, flags: argparse.Namespace) -> None:
    """`base.yaml`: the config files as they are now, without the command line's changes, for the report to compare with."""
    from ldm.config import load
    from ldm.errors import UserError
    from ldm.files import write_text
    from ldm.interop.compvis import FOREIGN

    try:
        base = load(flags.base, foreign=FOREIGN)
    except UserError:  # they leave something to the command line
        return
    base.data.setdefault("seed", SEED)
    write_text(folder / "base.yaml", base.to_yaml())


def first_stage_of(module: Any, folder: Path, state: dict[str, Any] | None, flags: argparse.Namespace) -> dict[str, str] | None:
    """The record of the frozen first stage, held against that of the run that is resumed."""
    from ldm.errors import UserError
    from ldm.portable import first_stage_record

    stage = getattr(getattr(module, "model", module), "first_stage", None)
    record = first_stage_record(stage, folder)
    before = ((state or {}).get("first_stage") or {}).get("sha256")
    if record is not None and before not in (None, record["sha256"]) and not flags.allow_other_first_stage:
        raise UserError(
            f"{record['path']}: not the first stage this run was trained with (its SHA-256 differs); name the right one with "
            "--first-stage, or allow it with --allow-other-first-stage"
        )
    return record


def prepare_weights(module: Any) -> None:
    """Load now what would otherwise load in the first step, so that a missing file shows before the device starts."""
    for part in module.modules():
        if callable(getattr(part, "missing", None)):
            part.load()
        if getattr(part, "tokenizer", None) is not None:
            part.tokenizer([""], 1)


def describe(module: Any) -> str:
    """ "network 4.19 M, conditioner 0.02 M parameters"."""
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in module.parts().items()}
    return ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items() if count) + " parameters"


def farewell(folder: Path, module: Any) -> str:
    """Where things are, and what to type next."""
    from ldm.training import AutoencoderTraining, ClassifierTraining

    where = f"done. Weights: {folder}/checkpoints, pictures: {folder}/images, numbers: {folder}/metrics.csv"
    if isinstance(module, ClassifierTraining):
        return where
    if isinstance(module, AutoencoderTraining):
        return f"{where}\nnext, stage two on it:\n  python main.py --base configs/... --train paths.first_stage={folder}"
    return f"{where}\nnext, sample from it:\n  python scripts/sample.py {folder} --n 16 --outdir outputs/samples"


if __name__ == "__main__":
    sys.exit(main())
