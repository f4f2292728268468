"""A run finds its first stage: from any working directory, and after both were copied."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import main as program
from ldm.checkpoint.first_stage import KEPT, first_stage_record, keep_first_stage, pin_first_stage
from ldm.checkpoint.load import load_model
from ldm.config import AllowedTargets, build, load
from ldm.errors import MissingFile, UserError
from ldm.system.weights import fingerprint, save_pickled, save_weights

STAGE = {"target": "ldm.first_stage.KLAutoencoder", "params": {"channels": 2, "width": 32, "width_mult": [1, 1], "blocks_per_level": 1}}
FIRST = "logs/first [1]/checkpoints/step-3.safetensors"


def first_stage(path: Path, value: float) -> str:
    """A first stage whose weights all have one value; returns their SHA-256."""
    stage = build(STAGE, AllowedTargets(), "stage")
    weights = {name: torch.full_like(tensor, value) for name, tensor in stage.state_dict().items()}
    params = {"autoencoder": STAGE}
    save_weights(path, weights, {"config": {"model": {"target": "ldm.training.AutoencoderTraining", "params": params}}, "step": 3})
    return fingerprint(weights)


def stage_two(path: Path, record: dict[str, Any]) -> None:
    net = {"in_channels": 2, "out_channels": 2, "width": 32, "width_mult": [1], "blocks_per_level": 1, "heads": 1}
    parts: dict[str, Any] = {
        "first_stage": STAGE,
        "network": {"target": "ldm.networks.UNet", "params": net},
        "process": {"target": "ldm.diffusion.cosine", "params": {}},
    }
    node = {"target": "ldm.model.LatentDiffusion", "params": parts}
    weights = {k: v for k, v in build(node, AllowedTargets(), "model").state_dict().items() if not k.startswith("first_stage.")}
    parts["first_stage"] = {"target": "ldm.checkpoint.load.pretrained", "params": {"checkpoint": "logs/first [1]", "model": STAGE}}
    config = {"model": {"target": "ldm.training.DiffusionTraining", "params": {"model": node}}}
    save_weights(path, weights, {"config": config, "step": 5, "first_stage": record})


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs as main.py wrote them before it recorded where the first stage lies from the run: a path as given, and the hash."""
    project = tmp_path / "project"
    sha = first_stage(project / FIRST, 0.5)
    stage_two(project / "logs" / "second" / "checkpoints" / "step-5.ema.safetensors", {"path": FIRST, "sha256": sha})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return project / "logs"


def weight(path: Path, **more: Any) -> float:
    return float(next(load_model(str(path), **more).model.first_stage.parameters()).mean())


def test_from_any_working_directory(runs: Path) -> None:
    assert weight(runs / "second") == 0.5
    assert weight(Path(os.path.relpath(runs / "second"))) == 0.5
    assert weight(runs / "second" / "checkpoints" / "step-5.ema.safetensors") == 0.5


@pytest.mark.parametrize(
    "first,second",
    [
        ("first [1]", "second"),  # both run folders, side by side
        ("stage one", "stage two"),  # under other names
        ("first [1]/checkpoints/step-3.safetensors", "second/checkpoints/step-5.ema.safetensors"),  # the two files, in one folder
    ],
)
def test_after_both_were_copied_side_by_side(runs: Path, tmp_path: Path, first: str, second: str) -> None:
    target = tmp_path / "copy"
    target.mkdir()
    for name, old in ((first, "first [1]"), (second, "second")):
        if (runs / name).is_file():
            shutil.copy(runs / name, target)
        else:
            shutil.copytree(runs / old, target / name)
    shutil.rmtree(runs)
    assert weight(target / Path(second).name) == 0.5


def test_the_hash_decides_between_several(runs: Path, tmp_path: Path, script) -> None:
    """One of the same name lies where the command is typed, and another run beside has weights of the same step."""
    first_stage(Path(FIRST), -1.0)
    first_stage(runs / "a" / "checkpoints" / "step-3.safetensors", -2.0)
    assert weight(runs / "second") == 0.5
    (runs / "first [1]").rename(runs / "renamed")
    assert weight(runs / "second") == 0.5
    done = script("scripts/convert.py", runs / "second", tmp_path / "whole.safetensors", "--to", "ldm")
    assert done.returncode == 0, done.stderr
    assert weight(tmp_path / "whole.safetensors") == 0.5


def test_one_that_is_gone_or_another_names_the_flag(runs: Path, script, tmp_path: Path) -> None:
    shutil.rmtree(runs / "first [1]")
    for name, words in (("sample", ["--outdir", tmp_path / "out"]), ("convert", [tmp_path / "x.safetensors", "--to", "ldm"])):
        done = script(f"scripts/{name}.py", runs / "second", *words)
        assert done.returncode == 3 and FIRST in done.stderr and "--first-stage" in done.stderr and done.stderr.count("\n") == 1
    with pytest.raises(MissingFile, match="--first-stage"):
        load_model(str(runs / "second"))
    first_stage(runs / "first [1]" / "checkpoints" / "step-3.safetensors", 2.0)
    with pytest.raises(UserError, match=r"not the first stage that .*--first-stage"):
        load_model(str(runs / "second"))
    assert weight(runs / "second", allow_other_first_stage=True) == 2.0


def test_a_first_stage_that_went_on_leaves_what_others_were_trained_on(runs: Path, tmp_path: Path) -> None:
    """Its own run keeps its newest checkpoints only; the run that builds on an older one has that under a name of its own."""
    stage = torch.nn.Identity()
    stage.checkpoint, stage.sha256 = str(runs.parent / FIRST), "as recorded"  # type: ignore[assignment]
    keep_first_stage(stage, runs / "second")
    keep_first_stage(stage, runs / "second")  # resumed
    assert sorted(path.name for path in (runs / "second").iterdir()) == ["checkpoints", KEPT]
    first_stage(runs / "first [1]" / "checkpoints" / "step-9.safetensors", 2.0)
    (runs.parent / FIRST).unlink()
    assert weight(runs / "second") == 0.5
    shutil.copytree(runs / "second", tmp_path / "alone")
    shutil.rmtree(runs)
    assert weight(tmp_path / "alone") == 0.5


@pytest.mark.parametrize("room", ["copied", "too large", "full"])
def test_a_file_system_without_such_links_gets_a_copy_or_a_warning(room: str, runs: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "link", refuse)
    if room == "too large":
        monkeypatch.setattr("ldm.system.files.COPIED", 100)
    if room == "full":
        monkeypatch.setattr(shutil, "copyfile", refuse)
    stage, kept = torch.nn.Identity(), runs / "second" / KEPT
    stage.checkpoint, stage.sha256 = str(runs.parent / FIRST), "as recorded"  # type: ignore[assignment]
    keep_first_stage(stage, runs / "second")
    if room != "copied":
        assert [path.name for path in (runs / "second").iterdir()] == ["checkpoints"]
        assert caplog.text.count("warning: ") == 1 and f"{FIRST}: could be neither linked nor copied" in caplog.text
        return
    made = kept.stat().st_mtime_ns
    keep_first_stage(stage, runs / "second")  # resumed: it is there
    assert kept.stat().st_mtime_ns == made and not caplog.text
    first_stage(runs / "first [1]" / "checkpoints" / "step-9.safetensors", 2.0)
    (runs.parent / FIRST).unlink()
    assert weight(runs / "second") == 0.5


def test_a_new_run_records_the_way_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a log folder may lie anywhere: neither above nor beside the first stage."""
    sha = first_stage(tmp_path / "home" / "models" / "vq.safetensors", 0.5)
    monkeypatch.chdir(tmp_path / "home")
    stage = torch.nn.Identity()
    stage.checkpoint, stage.sha256 = "models/vq.safetensors", sha  # type: ignore[assignment]
    record = first_stage_record(stage, tmp_path / "scratch" / "logs" / "run")
    assert record == {"path": "models/vq.safetensors", "sha256": sha, "relative": "../../../home/models/vq.safetensors"}
    stage_two(tmp_path / "scratch" / "logs" / "run" / "checkpoints" / "step-5.ema.safetensors", record)
    monkeypatch.chdir(tmp_path)
    assert weight(Path("scratch/logs/run")) == 0.5


def test_a_resumed_run_finds_it_too_and_overrides_still_reach_it(runs: Path) -> None:
    checkpoint = runs / "second" / "checkpoints" / "step-5.ckpt"
    node = {"target": "ldm.checkpoint.load.pretrained", "params": {"checkpoint": "logs/first [1]", "model": STAGE}}
    sha = fingerprint({k: torch.full_like(v, 0.5) for k, v in build(STAGE, AllowedTargets(), "stage").state_dict().items()})

    def state() -> dict[str, Any]:
        unresolved = {**node, "params": {**node["params"], "checkpoint": "${paths.first_stage}"}}
        return {
            "first_stage": {"path": FIRST, "sha256": sha},
            "config": {"model": {"params": {"model": {"params": {"first_stage": node}}}}},
            "source": {"paths": {"first_stage": "logs/first [1]"}, "model": {"params": {"model": {"params": {"first_stage": unresolved}}}}},
        }

    pin_first_stage(pinned := state(), checkpoint)
    assert pinned["source"]["paths"]["first_stage"] == str(runs.parent / FIRST)
    assert pinned["source"]["model"] == state()["source"]["model"]
    pin_first_stage(other := state(), checkpoint, ["paths.first_stage=other"])
    assert other["source"] == state()["source"]


def test_a_first_stage_whose_path_looks_like_a_reference(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldm.checkpoint.first_stage.find_first_stage", lambda *words: "logs/${b}/x")
    model = {"stage": {"target": "ldm.checkpoint.load.pretrained", "params": {"checkpoint": "${paths.first_stage}"}}}
    state = {"first_stage": {"path": "x"}, "config": {"model": model}, "source": {"paths": {"first_stage": "x"}, "model": model}}
    pin_first_stage(state, runs)
    found = load([], start=state["source"]).data["model"]["stage"]["params"]["checkpoint"]
    assert found == "logs/${b}/x"


def test_a_classifier_s_run_takes_the_flag_and_finds_its_first_stage_as_well(runs: Path, root: Path, capsys) -> None:
    config = load([root / "configs" / "ldm" / "imagenet-ldm8-noisy-classifier.yaml"])
    sha = fingerprint({k: torch.full_like(v, 0.5) for k, v in build(STAGE, AllowedTargets(), "stage").state_dict().items()})
    state = {"model": {}, "ema": {}, "optimizers": [], "schedulers": []} | {"ldm_checkpoint": 1, "step": 5, "seed": 23}
    state |= {"config": config.data, "source": config.source, "first_stage": {"path": FIRST, "sha256": sha}}
    save_pickled(runs / "classifier" / "checkpoints" / "step-5.ckpt", state)
    for words, expected in (([], str(runs.parent / FIRST)), (["--first-stage", "other"], "other")):
        assert program.main(["--resume", str(runs / "classifier"), "--print-config", *words]) == 0
        shown = yaml.safe_load(capsys.readouterr().out)
        assert shown["model"]["params"]["first_stage"]["params"]["checkpoint"] == expected


@pytest.mark.slow
def test_a_run_copied_elsewhere_goes_on(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = ["trainer.params.steps=2", "trainer.params.images_every=0", "trainer.params.validate_every=0", "trainer.params.accelerator=cpu"]
    monkeypatch.chdir(tmp_path)
    digits = [root / "configs" / "demo" / name for name in ("digits-first-stage.yaml", "digits.yaml")]
    assert program.main(["-b", str(digits[0]), "-t", "-n", "first", *quiet]) == 0
    first = next(Path("logs").glob("*_first"))
    assert program.main(["-b", str(digits[1]), "-t", "-n", "second", *quiet, f"paths.first_stage={first}"]) == 0
    assert program.main(["--resume", str(first), "trainer.params.steps=4", "trainer.params.keep=1"]) == 0  # drops what the second one has
    shutil.move("logs", "moved")
    second = next(Path("moved").glob("*_second"))
    monkeypatch.chdir(root)
    assert program.main(["--resume", str(tmp_path / second), "trainer.params.steps=3"]) == 0
    config = yaml.safe_load((tmp_path / second / "config.yaml").read_text())
    assert config["model"]["params"]["model"]["params"]["first_stage"]["params"]["checkpoint"].startswith(str(tmp_path / "moved"))
