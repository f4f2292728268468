"""A checkpoint or a run folder from a stranger: what its config says builds a model, and writes nowhere else."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import main as program
from ldm.checkpoint.guides import load_classifier
from ldm.checkpoint.load import load_model, pretrained
from ldm.config import AllowedTargets, Config, build, load
from ldm.errors import UserError
from ldm.system.weights import read_checkpoint, save_pickled, save_tensors, save_weights
from ldm.training.confine import confined

STAGE = {"target": "ldm.first_stage.KLAutoencoder", "params": {"channels": 2, "width": 32, "width_mult": [1, 1], "blocks_per_level": 1}}
NET = {"in_channels": 2, "out_channels": 2, "width": 32, "width_mult": [1], "blocks_per_level": 1, "heads": 1}
MODEL = {
    "target": "ldm.model.LatentDiffusion",
    "params": {
        "first_stage": STAGE,
        "network": {"target": "ldm.networks.UNet", "params": NET},
        "process": {"target": "ldm.diffusion.cosine", "params": {}},
    },
}

NOTHING_ELSE = re.compile("is not needed for this|is not in an allowed package")


def payloads(folder: Path) -> dict[str, dict[str, Any]]:
    """Nodes of which no model is made: they write, read, download, or train when they are built or used."""
    return {
        "logger": {"target": "pytorch_lightning.loggers.CSVLogger", "params": {"save_dir": str(folder)}},
        "callback": {"target": "pytorch_lightning.callbacks.ModelCheckpoint", "params": {"dirpath": str(folder)}},
        "data": {"target": "ldm.data.ImageFolder", "params": {"root": str(folder), "size": 8}},
        "weights": {"target": "ldm.checkpoint.load.starting_weights", "params": {"checkpoint": str(folder)}},
        "training": {"target": "ldm.training.DataModule", "params": {}},
        "optimizer": {"target": "torch.optim.SGD", "partial": True, "params": {"lr": 1.0}},
        "machinery": {"target": "ldm.system.files.write_text", "params": {"path": str(folder / "x"), "text": "x"}},
        "torch": {"target": "torch.nn.functional.torch.load", "params": {"f": str(folder / "x")}},
        "pickle": {"target": "pickle.loads", "params": {"data": "x"}},
    }


@pytest.mark.parametrize("kind", payloads(Path()))
@pytest.mark.parametrize("where", ["conditioner", "network"])
def test_a_checkpoint_given_to_a_script_builds_a_model_and_nothing_else(script, tmp_path: Path, kind: str, where: str) -> None:
    node = copy.deepcopy(MODEL)
    node["params"][where] = payloads(tmp_path / "elsewhere")[kind]
    config = {"model": {"target": "ldm.training.DiffusionTraining", "params": {"model": node}}}
    save_weights(tmp_path / "model.safetensors", build(MODEL, AllowedTargets(), "").state_dict(), {"config": config, "step": 1})
    for words in (["sample", tmp_path / "model.safetensors", "--outdir", tmp_path / "out"], ["convert", tmp_path / "model.safetensors"]):
        more = [tmp_path / "x", "--to", "diffusers"] if words[0] == "convert" else []
        done = script(f"scripts/{words[0]}.py", *words[1:], *more)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and NOTHING_ELSE.search(done.stderr), done.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_classes_of_a_package_are_converted_once_it_is_trusted(script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs.py").write_text("from ldm.first_stage import KLAutoencoder\n\n\nclass Mine(KLAutoencoder):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    node = {**STAGE, "target": "theirs.Mine"}
    model = {"target": "ldm.training.AutoencoderTraining", "params": {"autoencoder": node}}
    save_weights(tmp_path / "stage.safetensors", build(STAGE, AllowedTargets(), "").state_dict(), {"config": {"model": model}, "step": 1})
    words = ["scripts/convert.py", tmp_path / "stage.safetensors"]
    refused = script(*words, tmp_path / "a", "--to", "compvis")
    assert refused.returncode == 2 and "'theirs.Mine' is not needed for this" in refused.stderr, refused.stderr
    trusted = script(*words, tmp_path / "a", "--to", "compvis", "--trust", "theirs")
    assert trusted.returncode == 2 and "cannot be written as a CompVis checkpoint: first stage theirs.Mine" in trusted.stderr
    outer = copy.deepcopy(MODEL)
    outer["params"]["first_stage"] = {
        "target": "ldm.checkpoint.load.pretrained",
        "params": {"checkpoint": "stage.safetensors", "model": node},
    }
    weights = {
        name: value for name, value in build(MODEL, AllowedTargets(), "").state_dict().items() if not name.startswith("first_stage.")
    }
    config = {"model": {"target": "ldm.training.DiffusionTraining", "params": {"model": outer}}}
    save_weights(tmp_path / "model.safetensors", weights, {"config": config, "step": 1})
    words = ["scripts/convert.py", tmp_path / "model.safetensors", tmp_path / "b.safetensors", "--to", "ldm"]
    assert script(*words).returncode == 2
    done = script(*words, "--trust", "theirs")
    assert done.returncode == 0, done.stderr
    assert type(load_model(str(tmp_path / "b.safetensors"), trust=AllowedTargets(("theirs",))).model.first_stage).__name__ == "Mine"


def test_other_kinds_of_models_are_held_to_it_too(tmp_path: Path) -> None:
    guided = build(MODEL, AllowedTargets(), "")
    save_weights(tmp_path / "model.safetensors", guided.state_dict(), {"config": {"model": {"params": {"model": MODEL}}}, "step": 1})
    loaded = load_model(str(tmp_path / "model.safetensors"))
    for node in payloads(tmp_path / "elsewhere").values():
        for key, read in (("autoencoder", pretrained), ("classifier", lambda path: load_classifier(path, loaded))):
            save_weights(tmp_path / "x.safetensors", {"w": torch.ones(1)}, {"config": {"model": {"params": {key: node}}}, "step": 1})
            with pytest.raises(UserError, match=NOTHING_ELSE):
                read(str(tmp_path / "x.safetensors"))


@pytest.mark.parametrize("key", ["model", "autoencoder", "classifier"])
def test_a_model_of_another_kind_is_one_line(script, tmp_path: Path, key: str) -> None:
    node = {"target": "torch.nn.Linear", "params": {"in_features": 1, "out_features": 1}}
    save_weights(tmp_path / "x.safetensors", {"w": torch.ones(1)}, {"config": {"model": {"params": {key: node}}}, "step": 1})
    with pytest.raises(UserError, match="Linear"):
        if key == "model":
            load_model(str(tmp_path / "x.safetensors"))
        elif key == "autoencoder":
            pretrained(str(tmp_path / "x.safetensors"))
        else:
            save_weights(
                tmp_path / "m.safetensors",
                build(MODEL, AllowedTargets(), "").state_dict(),
                {"config": {"model": {"params": {"model": MODEL}}}},
            )
            load_classifier(str(tmp_path / "x.safetensors"), load_model(str(tmp_path / "m.safetensors")))


def test_the_data_of_a_run_is_data_and_nothing_else(script, tmp_path: Path) -> None:
    node = payloads(tmp_path / "elsewhere")["logger"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": {"params": {"batch_size": 1, "train": node}}}))
    done = script("scripts/inspect_data.py", "--base", tmp_path / "config.yaml")
    assert done.returncode == 2 and "CSVLogger" in done.stderr and not (tmp_path / "elsewhere").exists()


def test_loggers_and_callbacks_stand_where_they_belong(tmp_path: Path) -> None:
    node = "pytorch_lightning.loggers.CSVLogger"
    words = ["--base", "configs/demo/digits-first-stage.yaml", "--check", f"model.params.loss={{target: {node}, params: {{save_dir: x}}}}"]
    assert program.main(words) == 2


def resumed(tmp_path: Path, folder: Path, extra: dict[str, Any], *words: str) -> Config:
    """As main.py loads the config of a run that is resumed."""
    folder.mkdir(parents=True, exist_ok=True)
    return load([], words, extra)


LOGGER = {"target": "pytorch_lightning.loggers.CSVLogger"}
CALLBACK = {"target": "pytorch_lightning.callbacks.ModelCheckpoint"}


@pytest.mark.parametrize("place", ["/{tmp}/elsewhere", "elsewhere", "~/x", "../x", "$HOME/x"])
def test_what_a_resumed_run_writes_lies_inside_it(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder, place = tmp_path / "run", place.replace("/{tmp}", str(tmp_path))
    extra = {"loggers": {"x": {**LOGGER, "params": {"save_dir": place}}}, "callbacks": {"y": {**CALLBACK, "params": {"dirpath": place}}}}
    kept = confined(resumed(tmp_path, folder, extra), folder, AllowedTargets())
    assert kept["loggers"]["x"]["params"]["save_dir"] == str(folder / "loggers" / "x")
    assert kept["callbacks"]["y"]["params"]["dirpath"] == str(folder / "callbacks" / "y")
    inside = {"loggers": {"x": {**LOGGER, "params": {"save_dir": str(folder / "csv"), "name": "a", "prefix": "b"}}}}
    assert confined(resumed(tmp_path, folder, inside), folder, AllowedTargets())["loggers"] == inside["loggers"]
    own = resumed(tmp_path, folder, extra, f"loggers.x.params.save_dir={tmp_path}/mine")
    assert confined(own, folder, AllowedTargets())["loggers"]["x"]["params"]["save_dir"] == f"{tmp_path}/mine"


@pytest.mark.parametrize("value", ["../../x", "/x", "~/x", "C:\\x", "a/../../../x", "file:/x", "$HOME"])
@pytest.mark.parametrize("key", ["name", "version", "sub_dir"])
def test_names_that_lead_out_are_refused(tmp_path: Path, key: str, value: str) -> None:
    extra = {"loggers": {"x": {"target": "pytorch_lightning.loggers.TensorBoardLogger", "params": {"save_dir": "x", key: value}}}}
    with pytest.raises(UserError, match=f"loggers.x.params.{key}: .*could lead out of the run folder"):
        confined(resumed(tmp_path, tmp_path / "run", extra), tmp_path / "run", AllowedTargets())


MLFLOW = "pytorch_lightning.loggers.MLFlowLogger"
ADDRESSES = ["sqlite:////tmp/x.db", "sqlite:///x.db", "http://server:5000", "https://server", "file:/x", "s3://bucket/x"]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("key", ["tracking_uri", "artifact_location", "run_name"])
def test_servers_and_databases_of_a_stranger_are_refused_until_they_are_said(tmp_path: Path, key: str, address: str) -> None:
    folder, extra = tmp_path / "run", {"loggers": {"x": {"target": MLFLOW, "params": {key: address}}}}
    with pytest.raises(UserError, match=f"loggers.x.params.{key}: '{address}' could lead out of the run folder.*pass it as an override"):
        confined(resumed(tmp_path, folder, extra), folder, AllowedTargets())
    own = resumed(tmp_path, folder, extra, f"loggers.x.params.{key}={address}")
    assert confined(own, folder, AllowedTargets())["loggers"]["x"]["params"][key] == address


def test_folders_of_mlflow_and_comet_lie_inside(tmp_path: Path) -> None:
    folder, place = tmp_path / "run", str(tmp_path / "run" / "loggers" / "x")
    for target, params in ((MLFLOW, {"tracking_uri": "/elsewhere"}), ("pytorch_lightning.loggers.CometLogger", {"offline_directory": "x"})):
        extra = {"loggers": {"x": {"target": target, "params": params}}}
        kept = confined(resumed(tmp_path, folder, extra), folder, AllowedTargets())["loggers"]["x"]["params"]
        assert {*kept} == {*params, *(["save_dir"] if target == MLFLOW else [])} and {*kept.values()} == {place}
    extra = {"loggers": {"x": {"target": "pytorch_lightning.loggers.CometLogger", "params": {"project": "a"}}}}
    assert confined(resumed(tmp_path, folder, extra), folder, AllowedTargets())["loggers"]["x"]["params"]["offline_directory"] == place


def test_links_that_lead_out_are_refused_and_defaults_stay_inside(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    extra = {"loggers": {"../x": {"target": "pytorch_lightning.loggers.WandbLogger", "params": {}}}}
    kept = confined(resumed(tmp_path, folder, extra), folder, AllowedTargets())
    assert kept["loggers"]["../x"]["params"] == {"save_dir": str(folder / "loggers" / "other")}
    (folder / "metrics.csv").symlink_to(tmp_path / "precious.csv")
    with pytest.raises(UserError, match=r"metrics.csv: a link that leads out"):
        confined(resumed(tmp_path, folder, {}), folder, AllowedTargets())


@pytest.mark.parametrize("link", ["images", "checkpoints/posthoc", "checkpoints/abandoned", "loggers"])
def test_linked_folders_that_lead_out_are_refused(tmp_path: Path, link: str) -> None:
    folder = tmp_path / "run"
    config = resumed(tmp_path, folder, {})
    (tmp_path / "photos").mkdir()
    (folder / "checkpoints").mkdir()
    (folder / "inside").mkdir()
    (folder / link).symlink_to(folder / "inside")
    confined(config, folder, AllowedTargets())
    (folder / link).unlink()
    (folder / link).symlink_to(tmp_path / "photos")
    with pytest.raises(UserError, match=f"{link}: a link that leads out"):
        confined(config, folder, AllowedTargets())


def test_checkpoints_may_be_on_another_disk(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = resumed(tmp_path, folder, {})
    (tmp_path / "disk" / "posthoc").mkdir(parents=True)
    (folder / "checkpoints").symlink_to(tmp_path / "disk")
    (folder / "checkpoints" / "last").symlink_to("step-1.ckpt")
    assert confined(config, folder, AllowedTargets()) == config.data


@pytest.mark.slow
def test_a_hostile_run_that_is_resumed_writes_inside_itself(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = ["trainer.params.steps=1", "trainer.params.images_every=0", "trainer.params.validate_every=0", "trainer.params.accelerator=cpu"]
    config = root / "configs" / "demo" / "digits-first-stage.yaml"
    monkeypatch.chdir(tmp_path)
    assert program.main(["-b", str(config), "-t", "-l", str(tmp_path / "logs"), *quiet]) == 0
    run = next((tmp_path / "logs").iterdir())
    state = read_checkpoint(run / "checkpoints" / "step-1.ckpt")
    for key in ("config", "source"):
        state[key]["loggers"] = {"x": {**LOGGER, "params": {"save_dir": str(tmp_path / "elsewhere")}}}
    save_pickled(run / "checkpoints" / "step-1.ckpt", state)
    assert program.main(["--resume", str(run), "trainer.params.steps=2"]) == 0
    assert not (tmp_path / "elsewhere").exists() and sorted(p.name for p in tmp_path.iterdir()) == ["logs"]
    assert list((run / "loggers" / "x").rglob("metrics.csv"))
    assert json.dumps(read_checkpoint(run / "checkpoints" / "step-2.ckpt")["config"]["loggers"]).count("elsewhere") == 1


MALFORMED = {  # what a header may say -> what is said of it
    "model": ({"config": {"model": 5}}, "model: expected a node"),
    "params": ({"config": {"model": {"params": [1]}}}, "model.params: expected a mapping"),
    "target": ({"config": {"model": {"params": {"model": {**MODEL, "target": 5}}}}}, "model.params.model.target: expected a name"),
    "first stage": ({"config": {"model": {"params": {"model": {**MODEL, "params": {"first_stage": 5}}}}}}, "LatentDiffusion"),
    "empty": ({"config": {"model": {"params": {"model": {}}}}}, "model"),
    "sampling": ({"config": {"model": {"params": {"model": MODEL}}, "sampling": [1]}}, "sampling: expected sampler settings"),
    "sets": ({"config": {"model": {"params": {"model": MODEL}}, "data": {"params": {"train": {"params": {"sets": 5}}}}}}, ""),
    "step": ({"config": {"model": {"params": {"model": MODEL}}}, "step": "x"}, "'step' in its header is a str"),
    "average": ({"config": {"model": {"params": {"model": MODEL}}}, "ema": [1]}, "'ema' in its header is a list"),
    "trained with": ({"config": {"model": {"params": {"model": MODEL}}}, "first_stage": "x"}, "'first_stage' in its header is a str"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_header_is_one_line(script, tmp_path: Path, case: str) -> None:
    header, message = MALFORMED[case]
    save_weights(tmp_path / "m.safetensors", build(MODEL, AllowedTargets(), "").state_dict(), header)
    done = script("scripts/sample.py", tmp_path / "m.safetensors", "--n", 1, "--steps", 1, "--height", 8, "--outdir", tmp_path / "out")
    if message:
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_header_without_end_is_one_line(script, tmp_path: Path) -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000):
        save_tensors(tmp_path / "m.safetensors", {"w": torch.ones(1)}, {"config": text})
        done = script("scripts/sample.py", tmp_path / "m.safetensors")
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr


STATE: dict[str, Any] = {
    **{"ldm_checkpoint": 1, "step": 1, "seed": 1, "model": {}, "ema": None, "optimizers": [], "schedulers": []},
    **{"config": {"model": {"params": {}}}, "source": {"model": {"params": {}}}},
}


@pytest.mark.parametrize(
    "key,value,message",
    [
        ("step", "x", "'step' is a str"),
        ("model", [1], "'model' is a list"),
        ("model", {"w": 5}, "'w' of its model is not a tensor"),
        ("source", 5, "'source' is a int"),
        ("interval", 5, "'interval' is a int"),
        ("seconds", "x", "'seconds' is a str"),
        ("source", {"model": 5}, "model: expected a node"),
        ("source", {}, "missing: expected a node"),
        ("config", {"model": {"params": 5}}, "model.params: expected a mapping"),
    ],
)
def test_a_malformed_state_is_not_resumed(tmp_path: Path, capsys, key: str, value: Any, message: str) -> None:
    (tmp_path / "checkpoints").mkdir()
    save_pickled(tmp_path / "checkpoints" / "step-1.ckpt", {**STATE, key: value})
    assert program.main(["--resume", str(tmp_path)]) == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text and message in text and (text.count("\n") == 1 or key == "source"), text
