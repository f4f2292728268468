"""Printed commands, quoted so that they can be pasted."""

import os
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def command(program: str, *words: object) -> str:
    """ "python scripts/sample.py 'my logs/run' --n 4": a program of this repository, as seen from the working directory."""
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
