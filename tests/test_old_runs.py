"""Runs of an earlier version (tests/fixtures/runs/make.py) go on as they did there, and are sampled, measured and converted."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.checkpoint.load import load_model, pretrained
from ldm.cli.main import main
from ldm.evaluation.record import read_records
from ldm.system.run_folder import newest_checkpoint
from ldm.system.weights import read_checkpoint, read_metadata, save_pickled

RUNS = Path(__file__).parent / "fixtures" / "runs"
KINDS = ("kl", "vq", "class", "text", "classifier")
MADE_BY = ["class", "--classes", "0-3", "--n", 4, "--device", "cpu", "--classifier", "classifier", "--classifier-scale", 0.5]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The old runs, copied to where they may be written, as the working directory."""
    folder = tmp_path / "runs"
    shutil.copytree(RUNS, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_goes_on_as_with_its_own_code(kind: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another working directory, so that a first stage is found beside its run; two steps, the last one validated."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["--resume", str(runs / kind), "trainer.params.steps=6"]) == 0
    rows = list(csv.DictReader((runs / kind / "metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [1, 2, 2, 3, 4, 4, 5, 6, 6]  # those of before are kept
    for row, old in zip(rows[6:], json.loads((RUNS / "went-on.json").read_text())[kind], strict=True):
        assert {key: float(row[key]) for key in old} == pytest.approx(old, abs=1e-4, rel=1e-4)
    state = read_checkpoint(newest_checkpoint(runs / kind))
    assert state["step"] == 6 and state["optimizers"][0]["state"]


def test_a_run_that_does_not_say_what_its_first_stage_was_finds_it_beside(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As classifiers of commit d2958de."""
    path = newest_checkpoint(runs / "classifier")
    save_pickled(path, {**read_checkpoint(path), "first_stage": None})
    monkeypatch.chdir("/")
    assert main(["--resume", str(runs / "classifier"), "trainer.params.steps=5"]) == 0


def test_a_run_without_its_first_stage_does_not_take_its_own_weights_for_it(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They have the name that the first stage's had."""
    shutil.rmtree(runs / "kl")
    monkeypatch.chdir("/")
    assert main(["--resume", str(runs / "classifier"), "trainer.params.steps=5"]) == 3
    assert "kl/checkpoints/step-4.safetensors: no such file" in capsys.readouterr().err


def test_narrower_numbers_that_this_device_lacks_are_named(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The precision of such a run may say 32-true: what Muon computes in is its own."""
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    path, said = newest_checkpoint(runs / "vq"), "Muon orthogonalised in bfloat16 when the run began"
    state = read_checkpoint(path)
    assert main(["--resume", str(path), "trainer.params.steps=5"]) == 0 and said not in (runs / "vq/incidents.jsonl").read_text()
    for optimizer in state["optimizers"]:
        for group in optimizer["param_groups"]:
            group["narrow"] = True
    save_pickled(path, state)
    assert main(["--resume", str(path), "trainer.params.steps=5"]) == 0
    assert (runs / "vq/incidents.jsonl").read_text().count(said) == 1


def test_a_set_of_samples_is_continued_and_comes_out_as_before(runs: Path, script: Any) -> None:
    """The same command finds the same settings; what is missing is made again."""
    before = {path.name: np.asarray(Image.open(path), dtype=int) for path in sorted(Path("samples").glob("0*.png"))}
    assert len(before) == 4
    for name in ("00001.png", "00002.png"):
        Path("samples", name).unlink()
    done = script("scripts/sample.py", *MADE_BY, "--outdir", "samples")
    assert done.returncode == 0 and "4 images in samples, of which 2 already existed" in done.stdout, done.stderr
    for name, pixels in before.items():
        assert abs(np.asarray(Image.open(Path("samples", name)), dtype=int) - pixels).max() <= 1


def test_samples_say_how_they_were_made(runs: Path, script: Any) -> None:
    Path("others").mkdir()
    for i in range(4):
        Image.new("L", (16, 16), 60 * i).save(f"others/{i:05d}.png")
    done = script("scripts/evaluate.py", "samples", "others", "--metrics", "psnr", "--allow-few", "--device", "cpu", "--out", "a.json")
    assert done.returncode == 0, done.stderr
    (record,) = read_records(Path("a.json"))
    assert (record.samples, record.sampler, record.steps, record.eta, record.scale, record.seed) == (4, "ddim", 4, 0.0, 1.5, 0)
    assert record.class_balance == "4 classes, 1 of each" and record.training_step == 4 and record.checkpoint is not None


def test_captions_are_sampled_with_any_average(runs: Path, script: Any) -> None:
    done = script("scripts/posthoc_ema.py", "text", "average.safetensors", "--length", 0.15)
    assert done.returncode == 0 and "from 2 snapshots" in done.stdout, done.stderr
    shutil.copy("average.safetensors", "text/checkpoints/average.safetensors")
    words = ["--prompt", "a red circle on the left", "--negative", "a blue square", "--n", 1, "--device", "cpu"]
    for model in ("text", "text/checkpoints/average.safetensors"):
        done = script("scripts/txt2img.py", model, *words, "--outdir", f"of {Path(model).stem}")
        assert done.returncode == 0, done.stderr
    one, other = (np.asarray(Image.open(f"of {name}/00000.png")) for name in ("text", "average"))
    assert one.shape == (16, 16, 3) and not np.array_equal(one, other)


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_a_first_stage_reconstructs(kind: str, runs: Path, script: Any) -> None:
    done = script("scripts/reconstruct.py", kind, f"{kind}/config.yaml", "--n", 2, "--device", "cpu", "--outdir", "out")
    assert done.returncode == 0 and len(list(Path("out/reconstructions").glob("*.png"))) == 2, done.stderr


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(("kind", "to", "where"), [("class", "compvis", "model.ckpt"), ("class", "ldm", ""), ("text", "ldm", "")])
def test_a_model_is_converted(kind: str, to: str, where: str, raw: bool, runs: Path, script: Any) -> None:
    done = script("scripts/convert.py", kind, "out", "--to", to)
    assert done.returncode == 0, done.stderr
    a, b = (load_model(str(path), raw=raw).model.state_dict() for path in (kind, Path("out", where)))
    assert a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.mark.parametrize(("kind", "to", "where"), [("kl", "compvis", "model.ckpt"), ("vq", "diffusers", ""), ("vq", "ldm", "")])
def test_a_first_stage_is_converted(kind: str, to: str, where: str, runs: Path, script: Any) -> None:
    done = script("scripts/convert.py", kind, "out", "--to", to)
    assert done.returncode == 0, done.stderr
    a, b = (pretrained(str(path)).state_dict() for path in (kind, Path("out", where)))
    assert a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def test_a_run_knows_its_first_stage_by_hash_and_by_where_it_lies(runs: Path) -> None:
    record = read_metadata(next((runs / "class" / "checkpoints").glob("*.safetensors")))["first_stage"]
    assert record["sha256"] == pretrained("kl").sha256 and record["path"].startswith("kl/") and record["relative"].startswith("../kl/")
