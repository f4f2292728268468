"""Configs, weights and command lines with names of before mean what they meant."""

from pathlib import Path

import pytest
import torch
import yaml

from ldm.checkpoint.load import load_model
from ldm.config import AllowedTargets, build, load, require_shape, validate
from ldm.config.renamed import original, renamed
from ldm.model import LatentDiffusion
from ldm.system.weights import save_weights

MODEL = {
    "target": "ldm.latent_diffusion.LatentDiffusion",
    "params": {
        "first_stage": {"target": "ldm.first_stage.IdentityFirstStage", "params": {"channels": 1}},
        "network": {
            "target": "ldm.networks.UNet",
            "params": {"in_channels": 1, "out_channels": 1, "width": 32, "width_mult": [1], "heads": 1},
        },
        "schedule": {"target": "ldm.diffusion.cosine", "params": {"T": 100}},
    },
}
OLD = {
    "model": {
        "target": "ldm.training.DiffusionTraining",
        "params": {"model": MODEL, "optimizer": {"target": "torch.optim.AdamW", "partial": True, "params": {"lr": 1e-3}}},
    },
    "data": {"params": {"batch_size": 4, "train": {"target": "ldm.data.Digits", "params": {"size": 8}}}},
    "trainer": {"params": {"steps": 2}},
}
AT = "model.params.model.params"


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, content: object) -> Path:
        (tmp_path / name).write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return tmp_path / name

    return write


def process_of(*files: Path, words: tuple[str, ...] = ()) -> dict:
    config = load(files, words)
    assert validate(config, AllowedTargets()) == []
    params = config.data["model"]["params"]["model"]["params"]
    assert "schedule" not in params
    return params["process"]


def test_an_old_config_builds_the_same_process(write) -> None:
    old = write("old.yaml", OLD)
    assert process_of(old) == {"target": "ldm.diffusion.cosine", "params": {"T": 100}}
    module = build(load([old]).data["model"], AllowedTargets(), "model")
    assert module.model.process.T == 100


@pytest.mark.parametrize("key", ["schedule", "process"])
def test_words_of_before_and_of_today_change_old_and_new_configs(write, key: str) -> None:
    old = write("old.yaml", OLD)
    new = write("new.yaml", yaml.safe_dump(OLD).replace("schedule:", "process:"))
    for file in (old, new):
        assert process_of(file, words=(f"{AT}.{key}.params.T=500",))["params"]["T"] == 500
        whole = f"{AT}.{key}={{target: ldm.diffusion.linear, params: {{T: 50}}}}"
        assert process_of(file, words=(whole,)) == {"target": "ldm.diffusion.linear", "params": {"T": 50}}
    assert load([old], [f"{AT}.schedule.params.T=0"]).origin(f"{AT}.process.params.T") == "command line"


def test_files_of_before_and_of_today_are_merged_in_their_order(write) -> None:
    """Parts of a config name no target: what they lie over says whose arguments they are, or what lies over them."""
    old = write("old.yaml", OLD)
    new = write("new.yaml", yaml.safe_dump(OLD).replace("schedule:", "process:"))
    old_part = write("old-part.yaml", f"model: {{params: {{model: {{params: {{schedule: {{params: {{T: 7}}}}}}}}}}}}\nbase: [{new.name}]\n")
    new_part = write("new-part.yaml", "model: {params: {model: {params: {process: {params: {T: 8}}}}}}\n")
    assert process_of(old_part)["params"] == {"T": 7}
    assert process_of(old, new_part)["params"] == {"T": 8}
    assert process_of(old_part, new_part)["params"] == {"T": 8}
    alone = write("alone.yaml", "model: {params: {model: {params: {schedule: {params: {s: 0.5}}}}}}\n")
    assert process_of(alone, new)["params"] == {"T": 100, "s": 0.5}


def test_from_and_references_lead_along_todays_names(write) -> None:
    write("old.yaml", OLD)
    taken = write(
        "taken.yaml", f'base: [old.yaml]\nmodel: {{params: {{model: {{params: {{process: {{from: "old.yaml:{AT}.schedule"}}}}}}}}}}\n'
    )
    assert process_of(taken)["params"] == {"T": 100}
    content = yaml.safe_load(yaml.safe_dump(OLD))
    content["trainer"]["params"]["steps"] = f"${{{AT}.schedule.params.T}}"
    content["model"]["params"]["objective"] = {  # relative: one dot is the mapping that the text is in, every further one the one above
        "target": "ldm.diffusion.DiffusionObjective",
        "params": {"log_variances": "${...model.params.schedule.params.T}"},
    }
    config = load([write("refers.yaml", content)], [f"{AT}.schedule.params.T=50"])
    assert config.data["trainer"]["params"]["steps"] == 50
    assert config.data["model"]["params"]["objective"]["params"]["log_variances"] == 50


def test_a_hash_of_a_config_is_over_the_names_that_it_was_first_taken_with() -> None:
    assert original(renamed(OLD)) == OLD == original(OLD) and renamed(OLD) != OLD


def test_weights_with_an_old_header_load(tmp_path: Path) -> None:
    torch.manual_seed(0)
    node = require_shape(OLD, "test")["model"]["params"]["model"]
    assert node["params"]["process"] == MODEL["params"]["schedule"]
    model: LatentDiffusion = build(node, AllowedTargets())
    save_weights(tmp_path / "w.safetensors", model.state_dict(), {"ldm_checkpoint": 1, "step": 3, "config": OLD, "ema": {}})
    loaded = load_model(str(tmp_path / "w.safetensors"))
    assert loaded.step == 3 and loaded.model.process.T == 100
    assert "schedule" not in loaded.config["model"]["params"]["model"]["params"]
