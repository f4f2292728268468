"""Printed commands, quoted so that they can be pasted."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from ldm.system.shipped import INSTALLED, ROOT

PROGRAM = re.compile(r"(?<![\w/.\\-])(?:python )?(?:scripts/(\w+)\.py|main\.py)\b")  # in a text


def installed_command() -> tuple[str, ...]:
    """The words that programs begin with where the package is installed or was called by its command; none in a clone."""
    called = Path(sys.argv[0]) if sys.argv else Path()
    if called.name == "__main__.py" and called.parent.name == "ldm":
        return ("python", "-m", "ldm")
    return ("ldm",) if INSTALLED or called.stem == "ldm" else ()


def program_name() -> str | None:
    """The program of this process for `--help`, None for that of `sys.argv`."""
    words = installed_command()
    return " ".join([*words, *sys.argv[1:2]]) if words else None


def as_installed(text: str) -> str:
    """A text whose programs are those that are there: "python scripts/sample.py" is "ldm sample" where the package is installed."""
    start = " ".join(installed_command())
    return PROGRAM.sub(lambda hit: f"{start} {hit[1] or 'train'}", text) if start else text


def command(program: str, *words: object) -> str:
    """ "python scripts/sample.py 'my logs/run' --n 4" or "ldm sample 'my logs/run' --n 4": a program as seen from the working directory."""
    if start := installed_command():
        name = "train" if program == "main.py" else Path(program).stem
        return quoted(*start, name, *(word for word in words if word != "--train"))
    path = ROOT / program
    if path.is_file() and Path.cwd() != ROOT:
        try:
            program = os.path.relpath(path)
        except ValueError:  # on another drive of Windows
            program = str(path)
    return quoted("python", program, *words)


def quoted(*words: object) -> str:
    """Arguments quoted for a shell: POSIX or Windows."""
    if os.name == "nt":
        return subprocess.list2cmdline(map(str, words))
    return " ".join(_quoted(str(word)) for word in words)


def as_argument(path: object) -> str:
    """A path that is not parsed as a flag or expanded as a home folder."""
    return f"./{path}" if str(path).startswith(("-", "~", "$HOME", "${HOME}")) else str(path)


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # bash and zsh read $'...'; a raw line break or escape code would affect the terminal
    return "$'" + "".join(_escaped(letter) for letter in word) + "'"


def _escaped(letter: str) -> str:
    if letter in "'\\":
        return f"\\{letter}"
    return letter if letter.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))
