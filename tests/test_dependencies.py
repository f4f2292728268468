"""Everything imported is declared, everything declared is used, and the places that install agree."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAMES = {  # of packages whose module is called otherwise
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "scikit-image": "skimage",
}
BY_OTHERS = {"tensorboard": "Lightning's TensorBoardLogger", "types-pyyaml": "mypy"}  # not imported here, but by them
TOOLS = {"pytest-xdist": "pytest -n", "ruff": "-m ruff", "mypy": "-m mypy", "pre-commit": ""}  # called, in the Makefile
OWN = {"ldm", "main", "demos", "paper", "recorded"} | {path.stem for path in (ROOT / "tests").rglob("*.py")}


def declared(words: list[str]) -> dict[str, str]:
    """Name of a package, in small letters -> its module."""
    found = [re.match(r"[\w.-]+", word).group().lower() for word in words]  # type: ignore[union-attr]
    return {name: NAMES.get(name, name.replace("-", "_")) for name in found}


REQUIRED = declared(PROJECT["dependencies"])
EXTRAS = declared([word for words in PROJECT["optional-dependencies"].values() for word in words])


def imported(*folders: str) -> tuple[set[str], set[str]]:
    """Packages that modules import when they are loaded, and those that functions import when they are called."""
    always, later = set(), set()
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    for path in [*paths, ROOT / "main.py"]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for node in ast.walk(function)}
        for node in ast.walk(tree):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            (later if id(node) in inside else always).update(module.split(".")[0] for module in modules)
    standard = set(sys.stdlib_module_names) | OWN
    return always - standard, later - standard


def test_everything_imported_is_declared() -> None:
    always, later = imported("ldm", "scripts", "benchmarks", "demos", "paper")
    assert {"torch", "torchmetrics", "PIL", "yaml"} <= always
    assert always <= set(REQUIRED.values())
    assert later <= set(REQUIRED.values()) | set(EXTRAS.values())
    in_tests = set().union(*imported("tests"))
    assert in_tests - set(REQUIRED.values()) - set(EXTRAS.values()) <= {"tokenizers"}  # a part of transformers


def test_everything_declared_is_imported() -> None:
    used = set().union(*imported("ldm", "scripts", "benchmarks", "demos", "paper"))
    idle = {name for name, module in REQUIRED.items() if module not in used} - BY_OTHERS.keys()
    assert not idle
    with_tests = used.union(*imported("tests"))
    idle = {name for name, module in EXTRAS.items() if module not in with_tests} - BY_OTHERS.keys() - TOOLS.keys()
    assert not idle
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(call in makefile for call in TOOLS.values()) and (ROOT / ".pre-commit-config.yaml").is_file()
    assert BY_OTHERS.keys() | TOOLS.keys() <= REQUIRED.keys() | EXTRAS.keys()


def test_the_places_that_install_agree() -> None:
    """environment.yaml installs what the Makefile does, in versions that were tested together and that satisfy what is declared."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    heavy = {"torch", "torchvision"}
    assert REQUIRED.keys() | declared(PROJECT["optional-dependencies"]["dev"]).keys() <= pinned | heavy
    *_, pip = yaml.safe_load((ROOT / "environment.yaml").read_text(encoding="utf-8"))["dependencies"]
    assert pip["pip"] == ["-c constraints.txt", "-e .[dev]"]
    assert "-c constraints.txt -e '.[dev]'" in (ROOT / "Makefile").read_text(encoding="utf-8")
