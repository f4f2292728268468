"""`main.py`: the command line, and the requested action."""

import argparse
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from ldm.cli.parser import Parser, amount, files_and_overrides, run_script, seed
from ldm.errors import UserError

SEED = 23
LOGS = "logs"
FIRST_STAGE = "model.params.model.params.first_stage.params.checkpoint"
CLASSIFIERS_FIRST_STAGE = "model.params.first_stage.params.checkpoint"
DESCRIPTION = "Train a latent diffusion model from YAML, or check a config before any device starts."
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

exit codes: 0 success; 2 a wrong config, flag or file; 3 only files that the config names are missing;
130 stopped by Ctrl-C (the run was saved)
"""


def parser() -> Parser:
    """The command line."""
    p = Parser(DESCRIPTION, EXAMPLES)
    p.add_argument("-b", "--base", nargs="+", action="extend", default=[], metavar="YAML", help="configs, merged left to right")
    p.add_argument("-t", "--train", action="store_true", help="train")
    p.add_argument("-r", "--resume", metavar="RUN", help="continue a run folder (or one of its checkpoints) with its own config")
    p.add_argument("-n", "--name", help="name of the run (default: the first config's name)")
    p.add_argument("-s", "--seed", type=seed, help=f"of weights, data order and noise (default: the config's, else {SEED})")
    p.add_argument("-l", "--logdir", default=LOGS, metavar="DIR", help=f"where run folders go (default: {LOGS})")
    p.add_argument("--check", action="store_true", help="validate, count parameters, read a batch, run one narrow step; no training")
    p.add_argument("--no-check", action="store_true", help="train without the check that otherwise comes first")
    p.add_argument("--json", metavar="FILE", help="with --check: write the findings there as well")
    p.add_argument("--print-config", action="store_true", help="show the merged, resolved config and exit")
    p.add_trust("configs")
    p.add_argument("--first-stage", metavar="FILE", help="use this first stage (run folder or weights) instead of the config's")
    p.add_argument("--allow-other-first-stage", action="store_true", help="with --resume: accept another one than in training")
    p.add_argument("--gpus", metavar="LIST", help="old form of trainer.params.devices")
    p.add_argument(
        "--price", type=amount, metavar="X", help="of an hour of the machine: training prints what it cost so far and what is left"
    )
    p.add_argument("overrides", nargs="*", metavar="key.sub=value", help="changes to the config, after all files")
    return p


def main(arguments: list[str] | None = None, default: str | None = None) -> int:
    """Run the command line; returns the exit code. `default` is the action without --check, --print-config and --resume."""
    return run_script(partial(program, default=default), arguments, "take a smaller model, or a machine with more memory", "stopped")


def program(arguments: list[str] | None, default: str | None = None) -> int:
    """Load the config, then run the requested action."""
    flags = parser().parse_intermixed_args(arguments)
    flags.train |= default == "train" and not (flags.check or flags.print_config or flags.resume)
    flags.base, overrides = files_and_overrides(flags)
    if flags.json and not flags.check:
        raise UserError("--json goes with --check")
    if not (flags.resume or flags.base):
        raise UserError("no config: give --base CONFIG.yaml (or --resume RUN); --help shows examples")
    with ExitStack() as held:  # what is needed until the end
        return run(flags, overrides, held)


def run(flags: argparse.Namespace, overrides: list[str], held: ExitStack) -> int:
    """Run the requested action on the config of the flags."""
    from ldm.checkpoint.foreign import FOREIGN
    from ldm.config import AllowedTargets, load, trust_packages
    from ldm.training.launch import gather

    trust = AllowedTargets(tuple(flags.trust))
    trust_packages(flags.trust)
    training = (flags.train or flags.resume) and not (flags.check or flags.print_config)
    together = gather(held) if training else None
    state = resumed_state(flags, overrides, held, lock=bool(training)) if flags.resume else None
    overrides += overrides_from_flags(flags, state)
    config = load(flags.base, overrides, None if state is None else state["source"], foreign=FOREIGN, trust=trust)
    if flags.print_config:
        sys.stdout.write(config.to_yaml())
        return 0
    if state is not None:
        from ldm.training.resuming import changes

        state["changes"] = changes(state, config, trust)
    if flags.check:
        from ldm.check import check

        report = check(config, trust, latents=True)
        sys.stdout.write(report.text() + "\n")
        if flags.json:
            report.write(Path(flags.json))
        return report.exit_code
    if not training:
        raise UserError("nothing to do: add --train, --check or --print-config")
    from ldm.cli.train import train

    return train(flags, config, trust, state, overrides, held, together)


def resumed_state(flags: argparse.Namespace, overrides: list[str], held: ExitStack, lock: bool) -> dict[str, Any]:
    """The training state of `--resume`; with `lock`, the first process keeps other commands out of the run's folder.

    Raises:
        MissingFile, UserError: there is none, it is not in a run folder, or another command is running there.
    """
    from ldm.checkpoint.first_stage import pin_first_stage
    from ldm.config import require_shape
    from ldm.system.lock import locked
    from ldm.system.run_folder import newest_checkpoint
    from ldm.system.weights import read_checkpoint
    from ldm.training.run import process_number

    checkpoint = newest_checkpoint(Path(flags.resume))
    if flags.name or flags.logdir != LOGS:
        raise UserError(f"--{'name' if flags.name else 'logdir'}: a resumed run keeps its folder and its name")
    in_run = checkpoint.parent.name == "checkpoints"
    if in_run and lock and process_number() == 0:
        held.enter_context(locked(checkpoint.parent.parent, f"--resume {flags.resume}"))
        checkpoint = newest_checkpoint(Path(flags.resume))  # its owner may have saved another one in the meantime
    state = read_checkpoint(checkpoint)
    for key in ("config", "source"):
        state[key] = require_shape(state[key], str(checkpoint))
    if not in_run:
        raise UserError(f"--resume {flags.resume}: not in a run folder (expected RUN/checkpoints/{checkpoint.name})")
    if not flags.first_stage:
        pin_first_stage(state, checkpoint, overrides)
    return state


def overrides_from_flags(flags: argparse.Namespace, state: dict[str, Any] | None) -> list[str]:
    """`--first-stage`, `--gpus` and `--seed` as overrides.

    Raises:
        UserError: `--gpus` without a GPU.
    """
    from ldm.config import literal

    found = []
    if flags.first_stage:
        of_classifier = state is not None and "classifier" in ((state["source"].get("model") or {}).get("params") or {})
        found.append(f"{CLASSIFIERS_FIRST_STAGE if of_classifier else FIRST_STAGE}={literal(flags.first_stage)}")
    if flags.gpus is not None:
        import torch

        sys.stderr.write("note: --gpus is an alias; use trainer.params.devices=...\n")
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None
        if kind is None and not flags.print_config:
            raise UserError(f"--gpus {flags.gpus}: there is no GPU here (for another machine's config: trainer.params.devices=...)")
        devices = f"[{','.join(filter(None, flags.gpus.split(',')))}]" if "," in flags.gpus else flags.gpus  # "0," is a list of one
        found += [f"trainer.params.devices={devices}", *([f"trainer.params.accelerator={kind}"] if kind else [])]
    return [*found, *([] if flags.seed is None else [f"seed={flags.seed}"])]
