"""The configs of `configs/own/` from bare folders to pictures and files to share, by the command in their headers."""

import re
import shlex
from pathlib import Path

import pytest

import ldm
from demos.folders import FOLDERS

ROOT = Path(__file__).resolve().parents[2]
FEW = ["trainer.params.steps=3", "data.params.batch_size=2", "data.params.workers=0", "trainer.params.accelerator=cpu"]
QUIET = ["trainer.params.images_every=0", "trainer.params.validate_every=0"]
KINDS = {  # of folders that they are for
    "ldm": "photographs",
    "class": "classes",
    "captions": "sidecars",
    "inpainting": "photographs",
    "superres": "photographs",
    "semantic": "maps",
    "layout": "boxes",
    "first-stage-fine-tune": "photographs",
}


@pytest.fixture(scope="module")
def stage_one(programs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("own")
    return trained("first-stage", "photographs", programs, place)


def trained(name: str, kind: str, programs, place: Path, **paths: Path) -> Path:
    """Train a config by the command of its header; returns the run folder."""
    FOLDERS[kind](place / "data", 24)
    images = place / "data" / "images" if kind == "maps" else place / "data"
    given = {"paths.images": images, "paths.maps": place / "data" / "labels"} | {f"paths.{key}": path for key, path in paths.items()}
    header = (ROOT / "configs" / "own" / f"{name}.yaml").read_text()
    command = next(iter(re.findall(r"(?m)^#   python (main\.py .*)$", header)))
    words = [f"{key}={given[key]}" if (key := word.partition("=")[0]) in given else word for word in shlex.split(command)]
    done = programs.run([*words, *FEW, *QUIET, "--logdir", place / "logs"], timeout=900)
    assert done.returncode == 0, done.stderr
    (run,) = (place / "logs").iterdir()
    return run


def test_there_are_no_others() -> None:
    assert {path.stem for path in (ROOT / "configs" / "own").glob("*.yaml")} == {*KINDS, "first-stage", "fine-tune"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in KINDS if "fine" not in name])
def test_they_train_sample_and_are_published(name: str, stage_one: Path, programs, tmp_path: Path) -> None:
    run = trained(name, KINDS[name], programs, tmp_path, first_stage=stage_one)
    script = {"captions": "txt2img", "inpainting": "inpaint", "layout": "layout2img"}.get(
        name, name if name in ("superres", "semantic") else "sample"
    )
    examples = {
        "inpainting": ["--indir", run / "examples"],
        "superres": [run / "examples/low_res.png"],
        "semantic": [run / "examples/map.png"],
    }
    examples |= {"layout": [run / "examples/layout.json"], "captions": ["--prompt", "a red circle"]}
    done = programs.run(
        [f"scripts/{script}.py", run, *examples.get(name, ["--n", 2]), "--steps", 2, "--outdir", tmp_path / "out"], timeout=900
    )
    assert done.returncode == 0 and list((tmp_path / "out").rglob("*.png")), done.stderr
    done = programs.run(["scripts/publish.py", run, tmp_path / "published", "--license", "cc0-1.0"], timeout=900)
    assert done.returncode == 0, done.stderr
    assert ldm.load(tmp_path / "published", device="cpu").size == (64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["first-stage", "first-stage-fine-tune"])
def test_first_stages_are_exported_to_diffusers(name: str, stage_one: Path, programs, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    run = stage_one if name == "first-stage" else trained(name, KINDS[name], programs, tmp_path, start=stage_one)
    done = programs.run(["scripts/convert.py", run, tmp_path / "vae", "--to", "diffusers"], timeout=900)
    assert done.returncode == 0, done.stderr
    assert diffusers.AutoencoderKL.from_pretrained(tmp_path / "vae").config.latent_channels == 4


@pytest.mark.slow
def test_fine_tuning(stage_one: Path, programs, tmp_path: Path) -> None:
    start = trained("ldm", "photographs", programs, tmp_path / "a", first_stage=stage_one)
    run = trained("fine-tune", "photographs", programs, tmp_path / "b", first_stage=stage_one, start=start)
    done = programs.run(["scripts/sample.py", run, "--n", 2, "--steps", 2, "--outdir", tmp_path / "out"], timeout=900)
    assert done.returncode == 0 and (tmp_path / "out" / "00001.png").is_file(), done.stderr
