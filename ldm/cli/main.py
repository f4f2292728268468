"""From the command line to the requested action."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from ldm.cli.arguments import LOGS, gpu_list, parser
from ldm.errors import UserError, unexpected
from ldm.system.shell import as_installed
from ldm.system.signals import interrupting
from ldm.system.terminal import flushed, log_to_terminal, spelled_output
from ldm.system.threads import choose_waiting

FIRST_STAGE = "model.params.model.params.first_stage.params.checkpoint"
CLASSIFIERS_FIRST_STAGE = "model.params.first_stage.params.checkpoint"


def main(arguments: list[str] | None = None, default: str | None = None) -> int:
    """Run the command line; returns the exit code. `default` is the action without --check, --print-config and --resume."""
    choose_waiting()  # before anything imports torch, which waits until the words make sense
    return flushed(outcome(arguments, default))


def outcome(arguments: list[str] | None, default: str | None = None) -> int:
    """The exit code of a command line, with one line for what went wrong."""
    log_to_terminal()
    words = sys.argv[1:] if arguments is None else arguments
    flags = parser().parse_intermixed_args(words)
    flags.train |= default == "train" and not (flags.check or flags.print_config or flags.resume)
    # `--base a.yaml key=value`: what follows --base is only a file if it does not look like an override.
    overrides = [w for w in flags.base if "=" in w and not Path(w).is_file()] + flags.overrides
    flags.base = [w for w in flags.base if w not in overrides]
    if stray := [w for w in flags.overrides if "=" not in w]:
        sys.stderr.write(f"error: {stray[0]!r}: expected key.sub=value (configs go behind --base)\n")
        return 2
    try:
        with interrupting(), spelled_output(), ExitStack() as held:
            return run(flags, overrides, held)
    except UserError as error:
        sys.stderr.write(f"error: {as_installed(str(error))}\n")
        return error.exit_code
    except KeyboardInterrupt as error:
        sys.stderr.write(f"{str(error) or 'stopped'}\n")
        return 130
    except OSError as error:  # no permission, disk full: the message names the file
        sys.stderr.write(f"error: {error}\n")
        return 2
    except Exception as error:
        sys.stderr.write(f"error: {unexpected(error, 'take a smaller model, or a machine with more memory')}\n")
        return 2


def gpus(flags: argparse.Namespace) -> list[str]:
    """What `--gpus` stands for.

    Raises:
        UserError: there is no GPU to train on.
    """
    import torch

    sys.stderr.write("note: --gpus is an alias; use trainer.params.devices=...\n")
    kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None
    if kind is None and not flags.print_config:
        raise UserError(f"--gpus {flags.gpus}: there is no GPU here (for another machine's config: trainer.params.devices=...)")
    return [f"trainer.params.devices={gpu_list(flags.gpus)}", *([f"trainer.params.accelerator={kind}"] if kind else [])]


def run(flags: argparse.Namespace, overrides: list[str], held: ExitStack) -> int:
    """Load the config, then run the requested action. Resources to keep until the end are added to `held`."""
    if flags.json and not flags.check:
        raise UserError("--json goes with --check")
    if not (flags.resume or flags.base):
        raise UserError("no config: give --base CONFIG.yaml (or --resume RUN); --help shows examples")
    from ldm.checkpoint.first_stage import pin_first_stage
    from ldm.config import AllowedTargets, allow_environment, literal, load, require_shape, trust_packages
    from ldm.interop.compvis import FOREIGN
    from ldm.system.files import newest_checkpoint, read_checkpoint
    from ldm.system.lock import alone_in
    from ldm.training.launch import gather
    from ldm.training.run import process_number

    trust = AllowedTargets(tuple(flags.trust))
    allow_environment(flags.allow_env)
    trust_packages(flags.trust)
    state = together = None
    if (flags.train or flags.resume) and not (flags.check or flags.print_config):
        together = gather(held)
    if flags.resume:
        checkpoint = newest_checkpoint(Path(flags.resume))
        if flags.name or flags.logdir != LOGS:
            raise UserError(f"--{'name' if flags.name else 'logdir'}: a resumed run keeps its folder and its name")
        if checkpoint.parent.name == "checkpoints" and not (flags.check or flags.print_config) and process_number() == 0:
            held.enter_context(alone_in(checkpoint.parent.parent, f"--resume {flags.resume}"))
            checkpoint = newest_checkpoint(Path(flags.resume))  # its owner may have saved another one in the meantime
        state = read_checkpoint(checkpoint)
        for key in ("config", "source"):
            state[key] = require_shape(state[key], str(checkpoint))
        if checkpoint.parent.name != "checkpoints":
            raise UserError(f"--resume {flags.resume}: lies in no run folder (expected RUN/checkpoints/{checkpoint.name})")
        if not flags.first_stage:
            pin_first_stage(state, checkpoint, overrides)
    if flags.first_stage:
        of_classifier = state is not None and "classifier" in ((state["source"].get("model") or {}).get("params") or {})
        place = CLASSIFIERS_FIRST_STAGE if of_classifier else FIRST_STAGE
        overrides = [*overrides, place + "=" + literal(flags.first_stage)]
    if flags.gpus is not None:
        overrides = [*overrides, *gpus(flags)]
    if flags.seed is not None:
        overrides = [*overrides, f"seed={flags.seed}"]
    config = load(flags.base, overrides, None if state is None else state["source"], foreign=FOREIGN, trust=trust)
    if flags.print_config:
        sys.stdout.write(config.to_yaml())
        return 0
    if state is not None:
        from ldm.training.resuming import changes

        state["changes"] = changes(state, config, trust)
    if flags.check:
        from ldm.check import check

        report = check(config, trust)
        sys.stdout.write(report.text() + "\n")
        if flags.json:
            report.write(Path(flags.json))
        return report.exit_code
    if not flags.train and state is None:
        raise UserError("nothing to do: add --train, --check or --print-config")
    from ldm.cli.train import train

    return train(flags, config, trust, state, overrides, held, together)
