"""The argument parser of all programs, and how they start and end. Nothing here imports torch: `--help` and wrong flags answer at once."""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ldm.config import allow_environment
from ldm.config.overrides import home
from ldm.errors import UserError, unexpected
from ldm.system.processes import MOST
from ldm.system.shell import as_installed, program_name
from ldm.system.signals import interrupting
from ldm.system.terminal import escaped_output, flushed, log_to_terminal
from ldm.system.threads import set_thread_waiting

# Upper bounds: a digit too many ends in a message, not in a machine without memory.
COUNT = 10**8  # of anything
SIDE = 32768  # of an image, in pixels
SEED = 2**63 - 1
SIZE = 1e9  # of a number with a fraction
WITH = {"strength": "init", "guider": "guide", "guide_scale": "guide", "classifier_scale": "classifier"}  # no effect without the other flag
Main = Callable[[list[str] | None], int]


def integer(least: int | None = None, most: int = COUNT) -> Callable[[str], int]:
    """The type of a flag: an integer of `least` to `most`; from `-most` if `least` is None."""

    def value_of(text: str) -> int:
        value = int(text)
        if value > most or (least is None and value < -most):
            raise argparse.ArgumentTypeError(f"{text}: expected at most {most}")
        if least is not None and value < least:
            raise argparse.ArgumentTypeError(f"{text}: expected at least {least}")
        return value

    value_of.__name__ = "integer"  # in argparse's messages
    return value_of


def number(text: str) -> float:
    """The type of a flag: a finite number with an absolute value of at most `SIZE`."""
    value = float(text)
    if not math.isfinite(value) or abs(value) > SIZE:
        raise argparse.ArgumentTypeError(f"{text}: expected a number of at most {SIZE:g}")
    return value


def amount(text: str) -> float:
    """The type of a flag: a number that is not negative."""
    if (value := number(text)) < 0:
        raise argparse.ArgumentTypeError(f"{text}: expected at least 0")
    return value


count = integer(1)
pixels = integer(1, SIDE)
processes = integer(1, MOST)
workers = integer(0, MOST)
seed = integer(most=SEED)


class Parser(argparse.ArgumentParser):
    """Errors in one line without the usage, bounded numbers, and `~` expanded in paths."""

    def __init__(self, description: str | None, epilog: str | None = None) -> None:
        super().__init__(
            prog=program_name(),
            description=as_installed(description or ""),
            epilog=as_installed(epilog or ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.register("type", int, integer())
        self.register("type", float, number)
        self.add_argument("--allow-env", action="append", default=[], metavar="NAME", help="let configs read this environment variable")

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        return self._finished(super().parse_args(*args, **kwargs))

    def parse_intermixed_args(self, *args: Any, **kwargs: Any) -> Any:
        return self._finished(super().parse_intermixed_args(*args, **kwargs))

    def _finished(self, flags: argparse.Namespace) -> argparse.Namespace:
        allow_environment(flags.allow_env)
        for action in (action for action in self._actions if action.type in (None, Path) and action.metavar != "TEXT"):
            if hasattr(flags, action.dest):
                setattr(flags, action.dest, expanded(getattr(flags, action.dest)))  # --outdir=~/x, which the shell does not expand
        for key, other in WITH.items():
            if getattr(flags, other, "no such flag") is None and getattr(flags, key, None) != self.get_default(key):
                self.error(f"--{key.replace('_', '-')} has no effect without --{other}")
        return flags

    def add_trust(self, whose: str = "the model's config") -> None:
        """`--trust PACKAGE`."""
        self.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help=f"let {whose} name classes of this package too")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (--help explains all flags)\n")


def expanded(value: Any) -> Any:
    """A path or a list of them with a leading `~` or `$HOME` expanded; other values unchanged."""
    if isinstance(value, list):
        return [expanded(one) for one in value]
    return type(value)(home(str(value))) if isinstance(value, str | Path) else value


def files_and_overrides(flags: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Config files and overrides; in `--base a.yaml key=value`, argparse takes both for files.

    Raises:
        UserError: an override that is not key=value.
    """
    if stray := [word for word in flags.overrides if "=" not in word]:
        raise UserError(f"{stray[0]!r}: expected key.sub=value (configs go behind --base)")
    among = [word for word in flags.base if "=" in word and not Path(word).is_file()]
    return [word for word in flags.base if word not in among], among + flags.overrides


def run_script(
    main: Main,
    arguments: list[str] | None = None,
    memory: str = "lower --batch, or where there is --window, sample in tiles",
    stopped: str = "stopped; all written files are complete",
) -> int:
    """Run a program's main; a user's mistake becomes one line and exit code 2 or 3.

    Args:
        main: of the program.
        arguments: of the command line; `sys.argv` if None.
        memory: what to do about a lack of memory.
        stopped: message after Ctrl-C.
    """
    set_thread_waiting()  # before main imports torch
    log_to_terminal()
    return flushed(_exit_code(main, arguments, memory, stopped))


def _exit_code(main: Main, arguments: list[str] | None, memory: str, stopped: str) -> int:
    try:
        with interrupting(), escaped_output():
            return main(arguments)
    except UserError as error:
        sys.stderr.write(f"error: {as_installed(str(error))}\n")
        return error.exit_code
    except OSError as error:  # no permission, disk full: the message names the file
        sys.stderr.write(f"error: {error}\n")
    except KeyboardInterrupt as error:
        sys.stderr.write(f"{str(error) or stopped}\n")
        return 130
    except Exception as error:
        sys.stderr.write(f"error: {unexpected(error, memory)}\n")
    return 2
