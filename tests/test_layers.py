"""Nothing imports upward: the order of the layers, kept."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the bottom up. A module imports only from lines below its own, or from its own package.
LAYERS = [
    {"ldm.system.terminal", "ldm.ranges"},
    {"ldm.errors", "ldm.rng"},
    {"ldm.system", "ldm.precision"},
    {"ldm.config", "ldm.nn", "ldm.data.batch", "ldm.sampling.image_set"},
    {"ldm.networks", "ldm.diffusion"},
    {"ldm.first_stage", "ldm.conditioning", "ldm.data"},
    {"ldm.model"},
    {"ldm.sampling", "ldm.checkpoint.start"},
    {"ldm.training", "ldm.evaluation"},
    {"ldm.interop"},
    {"ldm.checkpoint"},
    {"ldm.check"},
    {"ldm.recipes"},
    {"ldm.cli"},
    {"ldm.pipeline"},
    {"demos"},
    {"paper"},
]
NAMED = {"ldm.config.renamed", "ldm.config.targets"}  # tables of names that configs may use: of every layer
PURE = {"ldm.nn", "ldm.diffusion"}  # torch, einops and the standard library only
LIGHTNING = {"ldm.training"}
FOLDERS = ("ldm", "demos", "paper")
ENTRY_POINTS = {ROOT / "ldm" / "__init__.py", ROOT / "ldm" / "__main__.py"}
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path not in ENTRY_POINTS)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def unit_of(module: str) -> tuple[int, str]:
    """Layer number and the entry of LAYERS that a module belongs to (the longest match)."""
    found = found_unit(module)
    assert found, f"{module} belongs to no layer: add it to LAYERS"
    return found


def found_unit(name: str) -> tuple[int, str] | None:
    """The same for any dotted name; None if it is in no unit."""
    hits = [(len(unit), i, unit) for i, layer in enumerate(LAYERS) for unit in layer if name == unit or name.startswith(unit + ".")]
    return max(hits)[1:] if hits else None


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downward(path: Path) -> None:
    module = name_of(path)
    layer, unit = unit_of(module)
    for target in imports(path):
        if target.split(".")[0] in FOLDERS and target != "ldm":
            other_layer, other = unit_of(target)
            assert other == unit or other_layer < layer, f"{module} imports {target}, which is not below it"


def names_in_strings(source: str) -> set[str]:
    """String constants that begin like a dotted name of this project, parts of f-strings too."""
    strings = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {hit[0] for string in strings if (hit := re.match(rf"(?:{'|'.join(FOLDERS)})(?:\.\w+)+", string))}


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path) not in NAMED], ids=name_of)
def test_strings_name_nothing_above(path: Path) -> None:
    module = name_of(path)
    layer, unit = unit_of(module)
    for name in names_in_strings(path.read_text(encoding="utf-8")):
        other_layer, other = found_unit(name) or (-1, "")
        assert other == unit or other_layer < layer, f"{module} names {name} in a string, which is not below it: let its owner pass it in"


def test_names_in_strings_are_seen() -> None:
    assert names_in_strings("a = 'ldm.cli.main:run' + f'ldm.check.{x}' + 'an ldm.model'\nb = 'ldm' or 'paper.plan'") == {
        *("ldm.cli.main", "ldm.check", "paper.plan")
    }


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_outside_packages(path: Path) -> None:
    _, unit = unit_of(name_of(path))
    outside = {target.split(".")[0] for target in imports(path)} - set(FOLDERS)
    if unit in PURE:
        import sys

        assert outside <= {"torch", "einops"} | set(sys.stdlib_module_names), f"{path}: {outside}"
    if unit not in LIGHTNING:
        assert "pytorch_lightning" not in outside, f"{path}: Lightning lives in ldm.training only"


def test_the_lower_layers_work_without_lightning(run) -> None:
    code = (
        "import sys; sys.modules['pytorch_lightning'] = None; sys.modules['omegaconf'] = None\n"
        "import torch\n"
        "from ldm.first_stage import IdentityFirstStage\n"
        "from ldm.networks import UNet\n"
        "from ldm.diffusion import cosine\n"
        "from ldm.model import LatentDiffusion\n"
        "from ldm.sampling.generate import SamplerSettings, generate\n"
        "m = LatentDiffusion(IdentityFirstStage(1), UNet(1, 1, 32, [1], 1, heads=1), cosine())\n"
        "print(generate(m.eval(), {}, range(2), (8, 8), SamplerSettings(steps=2)).shape)\n"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert "[2, 1, 8, 8]" in done.stdout


def test_the_table_in_the_architecture_page_is_this_list() -> None:
    rows = [
        line
        for line in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()
        if line.startswith(("| `ldm.", "| `demos", "| `paper"))
    ]
    table = [set(re.findall(r"`((?:ldm|demos|paper)[\w.]*)`", row.split("|")[1])) for row in rows]
    below = list(LAYERS)
    for names in reversed(table):  # a row may have several layers
        while below and below[0] <= names:
            names -= below.pop(0)
        assert not names, f"not in this place of LAYERS: {names}"
    assert not below


def test_the_picture_of_the_house_is_drawn_from_these_imports() -> None:
    from house import PICTURE, drawn

    assert PICTURE.read_text(encoding="utf-8") == drawn(), "python tests/house.py draws docs/house.svg anew"
