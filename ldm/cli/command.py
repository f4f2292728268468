"""The command `ldm` of an installed package: `ldm train` is main.py, and every script is a sub-command."""

import ast
import difflib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from ldm import __version__
from ldm.cli.parser import run_script
from ldm.system.shipped import ROOT

TRAIN = "train"


def main() -> int:
    """Run the command line; returns the exit code."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(overview())
        return 0
    if words[0] == "--version":
        sys.stdout.write(f"ldm {__version__}\n")
        return 0
    name, *rest = words
    if name == TRAIN:
        from ldm.cli.main import main as train

        return train(rest, TRAIN)
    known = scripts()
    if name not in known:
        near = difflib.get_close_matches(name, [TRAIN, *known], 1)
        sys.stderr.write(f"error: {name!r} is not a command" + (f"; did you mean {near[0]}?" if near else "") + " (ldm --help lists all)\n")
        return 2
    return run_script(module_of(known[name]).main, rest)


def scripts() -> dict[str, Path]:
    """The scripts by name."""
    return {path.stem: path for path in sorted((ROOT / "scripts").glob("*.py"))}


def overview() -> str:
    """What `ldm --help` says."""
    lines = {TRAIN: "Train a model from YAML, check a config, or continue a run."}
    lines |= {name: first_line(path) for name, path in scripts().items()}
    listed = "".join(f"  {name:<14} {line}\n" for name, line in lines.items())
    return f"usage: ldm COMMAND ...\n\n{listed}\nldm COMMAND --help explains its flags. Configs: {ROOT / 'configs'}\n"


def first_line(path: Path) -> str:
    """The first line of a script's docstring, without running it."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def module_of(path: Path) -> Any:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(f"ldm_script_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
