"""A first stage brings its own architecture: a run of ours, a CompVis checkpoint with its YAML, a diffusers folder."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ldm.check import check
from ldm.checkpoint.frozen import _architecture
from ldm.checkpoint.load import pretrained
from ldm.config import AllowedTargets, Config, build, load
from ldm.errors import UserError
from ldm.first_stage.base import FirstStage
from ldm.interop.compvis import write_state
from ldm.interop.compvis.autoencoder import write_first_stage
from ldm.interop.compvis.state import Weights, first_stage_to_state
from ldm.interop.diffusers import write_folder
from ldm.system.weights import save_weights

KL: dict[str, Any] = {
    "target": "ldm.first_stage.KLAutoencoder",
    "params": {"channels": 4, "width": 32, "width_mult": [1, 2], "blocks_per_level": 1, "attention_at": [2]},
}
KINDS = ["run", "compvis", "compvis safetensors", "diffusers", "inside another model"]


def stage(folder: Path, kind: str) -> Path:
    """A first stage as a program stores it."""
    torch.manual_seed(0)
    made = build(KL, AllowedTargets())
    if kind == "run":
        training = {"target": "ldm.training.AutoencoderTraining", "params": {"autoencoder": KL}}
        metadata = {"ldm_checkpoint": 1, "step": 3, "config": {"model": training}, "ema": {}}
        save_weights(folder / "checkpoints" / "step-3.ema.safetensors", made.state_dict(), metadata)
        return folder
    if kind == "inside another model":
        model = {"target": "ldm.model.LatentDiffusion", "params": {"first_stage": KL, "network": {}, "process": {}}}
        training = {"target": "ldm.training.DiffusionTraining", "params": {"model": model}}
        metadata = {"ldm_checkpoint": 1, "step": 3, "config": {"model": training}, "ema": {}}
        weights = {f"first_stage.{name}": value for name, value in made.state_dict().items()} | {"scale": torch.ones(())}
        save_weights(folder / "whole.safetensors", weights, metadata)
        return folder / "whole.safetensors"
    if kind == "diffusers":
        write_folder(made, KL, folder, 16)
        return folder
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": write_first_stage(KL, alone=True)}))
    state = first_stage_to_state(made, Weights(dict(made.state_dict())))
    if kind == "compvis":
        write_state(folder / "model.ckpt", state, 3)
        return folder / "model.ckpt"
    from safetensors.torch import save_file

    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return folder / "model.safetensors"


def changed(**params: Any) -> FirstStage:
    made = build({**KL, "params": {**KL["params"], **params}}, AllowedTargets())
    assert isinstance(made, FirstStage)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_built_from_the_file_alone(tmp_path: Path, kind: str) -> None:
    path = str(stage(tmp_path / "stage", kind))
    found = pretrained(path)
    torch.manual_seed(0)
    expected = build(KL, AllowedTargets()).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())
    # what the config repeats has to be the same; what only training knows, and other spellings of it, do not count
    same = pretrained(path, changed(dropout=0.1, initial_log_variance=-3.0, features=4, attention_at=(2, 8)))
    assert same.sha256 == found.sha256 and copy.deepcopy(same).settings == same.settings


DIFFERENT = [({"width": 64}, "width is 32 in the file, 64"), ({"attention_at": []}, r"attention_at is \[2\] in the file, \[\]")]
DIFFERENT += [({"norm_groups": 8}, "norm_groups is 32 in the file, 8"), ({"blocks_per_level": 2}, "blocks_per_level is 1 in the file, 2")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("params,message", DIFFERENT)
def test_a_difference_is_one_error_that_names_the_key(tmp_path: Path, kind: str, params: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        pretrained(str(stage(tmp_path / "stage", kind)), changed(**params))
    assert "can be omitted" in str(error.value) and "\n" not in str(error.value)


def test_another_kind_of_first_stage_is_named(tmp_path: Path) -> None:
    other = {"channels": 4, "codebook_size": 8, "width": 32, "width_mult": [1, 2], "blocks_per_level": 1}
    with pytest.raises(UserError, match="is a KLAutoencoder, the config describes a VQAutoencoder"):
        pretrained(
            str(stage(tmp_path / "stage", "run")), build({"target": "ldm.first_stage.VQAutoencoder", "params": other}, AllowedTargets())
        )


def test_without_its_yaml_the_structure_follows_from_the_weights(tmp_path: Path) -> None:
    path = stage(tmp_path / "stage", "compvis")
    expected = pretrained(str(path))
    path.with_name("config.yaml").unlink()
    assert pretrained(str(path), changed()).channels == 4  # the config says it
    found = pretrained(str(path))
    assert found.sha256 == expected.sha256 and _architecture(found) == _architecture(expected)
    write_state(path, {"head.weight": torch.zeros(3, 4)}, 3)
    with pytest.raises(UserError, match="put model.yaml or config.yaml beside it"):
        pretrained(str(path))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", ["nothing", "the same", "another width"])
def test_a_stage_two_config_may_leave_it_out(tmp_path: Path, kind: str, given: str) -> None:
    path = stage(tmp_path / "stage", kind)
    node = load(["configs/demo/digits.yaml"]).data
    params: dict[str, Any] = {"checkpoint": str(path)}
    if given != "nothing":
        params["model"] = copy.deepcopy(KL)
        params["model"]["params"]["width"] = 32 if given == "the same" else 64
    net = {"in_channels": 4, "out_channels": 4, "width": 32, "width_mult": [1], "heads": 1, "context_channels": 8}
    node["model"]["params"]["model"]["params"] |= {
        "first_stage": {"target": "ldm.checkpoint.load.pretrained", "params": params},
        "network": {"target": "ldm.networks.UNet", "params": net},
        "conditioner": {"target": "ldm.conditioning.ClassEmbedding", "params": {"num_classes": 10, "width": 8}},
    }
    report = check(Config(node, node), AllowedTargets())
    if given == "another width":
        assert report.exit_code == 2 and "width is 32 in the file, 64 in the config" in report.text(), report.text()
    else:  # digits have one channel and this first stage takes three: which the check knows from the file
        assert "images have 1 channels, the first stage takes 3" in report.text(), report.text()
        assert report.parameters["first_stage"] == sum(p.numel() for p in pretrained(str(path)).parameters())
