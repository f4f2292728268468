"""Bare folders of every kind, from `scripts/new.py` to pictures, with the commands that are printed and nothing else."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import ldm
from demos.folders import FOLDERS

FEW = ["trainer.params.steps=3", "data.params.batch_size=4", "data.params.workers=0"]
MODE = {"classes": "L", "grey": "L", "16-bit": "L", "transparent": "RGBA"}
SIZE = {"classes": (32, 32), "wide": (96, 64)}
MEASURED = ("wide", "grey", "16-bit", "transparent", "arrays")  # unconditional, of another shape or kind than square RGB
Do = Callable[..., str]


@pytest.fixture
def do(run, tmp_path: Path) -> Do:
    """Run a printed command in a folder of its own; returns what it says."""

    def call(line: str, *more: str, code: int = 0) -> str:
        words = shlex.split(line)
        assert words[0] == "python", line
        done = run(*words[1:], *more, cwd=tmp_path, timeout=900)
        assert done.returncode == code, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    return call


def printed(said: str) -> list[str]:
    """The commands in what a program says."""
    return [line.strip() for line in said.splitlines() if line.startswith("  python ")]


def trained(kind: str, do: Do, root: Path, place: Path) -> tuple[str, str]:
    """Follow the printed commands; returns the folders of both runs."""
    FOLDERS[kind](place / "my folder", 24)
    more = ["--condition", "brightness"] if kind == "numbers" else []
    said = do(f"python {root}/scripts/new.py 'my folder' --memory 0", *more)
    first, second, sample = printed(said)
    (advised,) = printed(do(first, *FEW))
    (one,) = (str(run.relative_to(place)) for run in place.glob("logs/*_first-stage"))
    assert shlex.split(advised)[:4] == shlex.split(second)[:4] and f"paths.first_stage={one}" in shlex.split(advised)
    (after,) = printed(do(second.replace("logs/STAGE1", one), *FEW))
    (two,) = (str(run.relative_to(place)) for run in place.glob("logs/*") if str(run.relative_to(place)) != one)
    assert shlex.split(after)[:3] == shlex.split(sample.replace("logs/STAGE2", two))[:3]
    do(sample.replace("logs/STAGE2", two))
    return one, two


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOLDERS)
def test_the_printed_commands_lead_to_pictures(kind: str, do: Do, root: Path, tmp_path: Path) -> None:
    one, two = trained(kind, do, root, tmp_path)
    pictures = [Image.open(path) for path in sorted((tmp_path / "outputs").rglob("*.png")) if path.name != "grid.png"]
    assert pictures and {(picture.mode, picture.size) for picture in pictures} == {(MODE.get(kind, "RGB"), SIZE.get(kind, (64, 64)))}
    if kind in MEASURED:
        measured(kind, do, root, one, two)
        assert "report.html" in do(f"python {root}/scripts/report.py {two}")
        do(f"python {root}/scripts/publish.py {two} published --license cc0-1.0")
        (picture,) = ldm.load(tmp_path / "published", device="cpu").sample(n=1, settings={"steps": 1})
        assert (picture.mode, picture.size) == (pictures[0].mode, pictures[0].size)


def measured(kind: str, do: Do, root: Path, one: str, two: str) -> None:
    """What can be measured is, and what cannot says so."""
    samples = f"python {root}/scripts/evaluate.py outputs/samples {two} --metrics kid --extractor demo --kid-size 10 --allow-few"
    rebuilt = f"python {root}/scripts/reconstruct.py {one} {two}/config.yaml --n 4 --split train --outdir rec"
    assert ("KD (demo features)" if kind != "arrays" else "5 channels") in do(samples, code=2 if kind == "arrays" else 0)
    if kind in ("arrays", "transparent"):
        assert "measured with 1 or 3" in do(rebuilt, code=2)
        return
    do(rebuilt)
    assert "PSNR" in do(f"python {root}/scripts/evaluate.py rec/reconstructions rec/originals --metrics psnr,ssim")
