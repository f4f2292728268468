"""Train a latent diffusion model from YAML, or check a config before any device starts."""

import argparse
import logging
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


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    p.add_argument("-b", "--base", nargs="+", default=[], metavar="YAML", help="configs, merged left to right")
    p.add_argument("-t", "--train", action="store_true", help="train")
    p.add_argument("-r", "--resume", metavar="RUN", help="continue a run folder (or one of its checkpoints) with its own config")
    p.add_argument("-n", "--name", help="name of the run; the first config's name without it")
    p.add_argument("-s", "--seed", type=int, help="of weights, data order and noise (default: the config's, else 23)")
    p.add_argument("-l", "--logdir", default="logs", metavar="DIR", help="where run folders go (default: logs)")
    p.add_argument("--check", action="store_true", help="validate, count parameters, read a batch, run one narrow step; no training")
    p.add_argument("--json", metavar="FILE", help="with --check: write the findings there as well")
    p.add_argument("--print-config", action="store_true", help="show the merged, resolved config and end")
    p.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help="let configs name classes of this package too")
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
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except OSError as error:  # no permission, disk full: the message names the file
        sys.stderr.write(f"error: {error}\n")
        return 2


def gpu_list(text: str) -> str:
    """ "0,1" or "0," -> "[0, 1]"; "2" -> 2 devices."""
    return f"[{','.join(part for part in text.split(',') if part)}]" if "," in text else text


def run(flags: argparse.Namespace, overrides: list[str]) -> int:
    """Load the config, then do the one thing that was asked for."""
    from ldm.config import Trust, load
    from ldm.config.targets import ALLOWED
    from ldm.errors import UserError
    from ldm.files import newest_checkpoint, read_checkpoint

    trust = Trust((*ALLOWED, *flags.trust))
    state = None
    if flags.resume:
        state = read_checkpoint(newest_checkpoint(Path(flags.resume)))
        if flags.name:
            raise UserError("--name: a resumed run keeps its folder and its name")
    elif not flags.base:
        raise UserError("no config: give --base CONFIG.yaml (or --resume RUN); --help shows examples")
    if flags.seed is not None:
        overrides = [*overrides, f"seed={flags.seed}"]
    config = load(flags.base, overrides, start=None if state is None else state["source"])
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

    from ldm.config import build, validate
    from ldm.errors import UserError
    from ldm.files import newest_checkpoint
    from ldm.training import DataModule, TrainerSettings
    from ldm.training.module import TrainingModule
    from ldm.training.run import fit, new_folder, record_config

    if problems := validate(config, trust):
        raise UserError("the config is wrong:\n  " + "\n  ".join(map(str, problems)))
    seed = int(config.data.setdefault("seed", 23))
    config.source.setdefault("seed", seed)
    if state is not None and seed != state["seed"]:
        raise UserError(f"--seed {seed}: this run has seed {state['seed']}, and its data order and noise depend on it")
    pl.seed_everything(seed, verbose=False)
    settings = build(config.data["trainer"], trust, "trainer")
    data = build(config.data["data"], trust, "data")
    module = build(config.data["model"], trust, "model")
    for thing, kind, path in ((settings, TrainerSettings, "trainer"), (data, DataModule, "data"), (module, TrainingModule, "model")):
        if not isinstance(thing, kind):
            raise UserError(f"{path}: expected a {kind.__name__}, got {type(thing).__name__}")
    prepare_weights(module)
    if flags.resume:
        checkpoint = newest_checkpoint(Path(flags.resume))
        folder = checkpoint.parent.parent
    else:
        # A second process of the same run (DDP) must find the first one's folder.
        import os

        folder = Path(os.environ.setdefault("LDM_RUN_FOLDER", str(new_folder(Path(flags.logdir), run_name(flags, config)))))
    first_stage = getattr(getattr(module, "model", None), "first_stage", None)
    metadata = {"config": config.data, "source": config.source, "first_stage": None}
    if getattr(first_stage, "sha256", None):
        metadata["first_stage"] = {"path": first_stage.checkpoint, "sha256": first_stage.sha256}
        if state is not None and (state.get("first_stage") or {}).get("sha256") not in (None, first_stage.sha256):
            raise UserError(f"{first_stage.checkpoint}: not the first stage this run was trained with (its SHA-256 differs)")
    if rank_zero_only.rank == 0:
        record_config(folder, config.to_yaml())
    else:
        logging.getLogger().setLevel(logging.WARNING)  # one process speaks for all
    logging.info("run folder: %s", folder)
    logging.info("%s, seed %d, %s on %s", describe(module), seed, settings.resolved_precision(), settings.device_type())
    callbacks = build(config.data.get("callbacks") or {}, trust, "callbacks").values()
    loggers = build(config.data.get("loggers") or {}, trust, "loggers").values()
    done = fit(module, data, settings, folder, metadata, seed, state, callbacks, loggers, note=" ".join([*flags.base, *overrides]))
    if not done:
        logging.info(
            "stopped at step %d of %d and saved; continue with\n  python main.py --resume %s",
            module.step,
            settings.steps,
            shlex.quote(str(folder)),
        )
        return 130
    logging.info("%s", farewell(folder, module))
    return 0


def prepare_weights(module: Any) -> None:
    """Load now what would otherwise load in the first step, so that a missing file shows before the device starts."""
    perceptual = getattr(getattr(module, "loss", None), "perceptual", None)
    if perceptual is not None:
        perceptual.load()
    tokenizer = getattr(getattr(getattr(module, "model", None), "conditioner", None), "tokenizer", None)
    if tokenizer is not None:
        tokenizer([""], 1)


def run_name(flags: argparse.Namespace, config: Any) -> str:
    """The flag, else the config's name, else the first file's."""
    return str(flags.name or config.data.get("name") or Path(flags.base[0]).stem)


def describe(module: Any) -> str:
    """ "network 4.19 M, conditioner 0.02 M parameters"."""
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in module.parts().items()}
    return ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items() if count) + " parameters"


def farewell(folder: Path, module: Any) -> str:
    """Where things are, and what to type next."""
    from ldm.training import AutoencoderTraining

    where = f"done. Weights: {folder}/checkpoints, pictures: {folder}/images, numbers: {folder}/metrics.csv"
    if isinstance(module, AutoencoderTraining):
        return f"{where}\nnext, stage two on it:\n  python main.py --base configs/... --train paths.first_stage={folder}"
    return f"{where}\nnext, sample from it:\n  python scripts/sample.py {folder} --n 16 --outdir outputs/samples"


if __name__ == "__main__":
    sys.exit(main())
