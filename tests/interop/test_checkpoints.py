"""Files in and out: official checkpoints, ours, diffusers'; from a recorded whole model and from runs of our own."""

import copy
import json
import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from recorded import read_case

import ldm
from ldm.checkpoint.load import load_model, pretrained
from ldm.errors import UserError
from ldm.interop.compvis import read_state
from ldm.system.weights import read_weights

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "tests" / "fixtures" / "compvis"
WHOLE = ["ldm_uncond_kl_std", "ldm_inpaint_vq", "ldm_class_vq"]


def released(folder: Path, name: str) -> Path:
    """A recorded model as its authors would have released it, callbacks of their trainer included."""
    case = read_case(FOLDER, name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": case.params["model"]}))
    callback = types.new_class("ModelCheckpoint")
    callback.__module__ = "pytorch_lightning.callbacks.of_old"
    sys.modules["pytorch_lightning.callbacks.of_old"] = types.ModuleType("of_old")
    sys.modules["pytorch_lightning.callbacks.of_old"].ModelCheckpoint = callback  # type: ignore[attr-defined]
    content = {"state_dict": case.weights, "global_step": 7, "epoch": 1, "callbacks": {callback: {"best_model_score": torch.ones(())}}}
    content["hyper_parameters"] = {"made_by": callback()}
    torch.save(content, folder / "model.ckpt")
    del sys.modules["pytorch_lightning.callbacks.of_old"]
    return folder / "model.ckpt"


def test_a_checkpoint_with_leftovers_of_its_trainer_is_read(tmp_path: Path) -> None:
    state = read_state(released(tmp_path, "ldm_class_vq"))
    assert state.keys() == read_case(FOLDER, "ldm_class_vq").weights.keys()


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, legacy: bool) -> None:
    content = {"state_dict": {"a": torch.ones(1)}, "x": Evil(tmp_path / "mark")}
    torch.save(content, tmp_path / "model.ckpt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"model\.ckpt: refused, because it names .*system"):
        read_state(tmp_path / "model.ckpt")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_both_formats_of_torch_are_read(tmp_path: Path, legacy: bool) -> None:
    torch.save({"state_dict": {"a": torch.ones(2)}}, tmp_path / "model.ckpt", _use_new_zipfile_serialization=not legacy)
    assert torch.equal(read_state(tmp_path / "model.ckpt")["a"], torch.ones(2))


@pytest.mark.parametrize(
    "content,message", [(b"junk", "cannot be read"), (pickle.dumps([1]), "a list|cannot be read"), (b"", "cannot be read")]
)
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "model.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_state(tmp_path / "model.ckpt")


@pytest.mark.parametrize("name", WHOLE)
def test_there_and_back_every_key_has_the_same_bits(script, tmp_path: Path, name: str) -> None:
    path = released(tmp_path / "in", name)
    done = script("scripts/convert.py", path, tmp_path / "ours.safetensors", "--to", "ldm")
    assert done.returncode == 0, done.stderr
    done = script("scripts/convert.py", tmp_path / "ours.safetensors", tmp_path / "back", "--to", "compvis")
    assert done.returncode == 0, done.stderr
    before, after = read_state(path), read_state(tmp_path / "back" / "model.ckpt")
    assert after.keys() == before.keys()
    different = [key for key in before if before[key].dtype != after[key].dtype or not torch.equal(before[key], after[key])]
    assert different == []
    # and what went back still is the same model
    first, second = (load_model(str(p)).model.state_dict() for p in (path, tmp_path / "back" / "model.ckpt"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_average_or_trained_weights_by_flag(tmp_path: Path) -> None:
    path = str(released(tmp_path, "ldm_uncond_kl_std"))
    averaged, raw = load_model(path).model, load_model(path, raw=True).model
    state = read_state(Path(path))
    key = "time_embed.0.weight"
    assert torch.equal(raw.network.time[0].weight, state[f"model.diffusion_model.{key}"])
    assert torch.equal(averaged.network.time[0].weight, state["model_ema.diffusion_model" + key.replace(".", "")])
    assert float(averaged.scale) == float(state["scale_factor"])


@pytest.mark.parametrize("words", [[], ["--raw"], ["--config", "{folder}/config.yaml", "--steps", "2", "--sampler", "dpm_solver"]])
def test_scripts_take_an_official_checkpoint(script, tmp_path: Path, words: list[str]) -> None:
    path = released(tmp_path / "in", "ldm_class_vq")
    words = [w.format(folder=tmp_path / "in") for w in words]
    more = ["--n", 2, "--classes", "0,6", "--outdir", tmp_path / "out"]
    done = script("scripts/sample.py", path, *more, "--steps", 3, *words)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / "00001.png") as image:
        assert image.size == (16, 16)  # as the YAML says: latents of 8 and a first stage of factor 2


def test_a_missing_yaml_and_a_wrong_one_are_named(script, tmp_path: Path) -> None:
    path = released(tmp_path / "in", "ldm_class_vq")
    other = released(tmp_path / "other", "ldm_uncond_kl_std")
    done = script("scripts/sample.py", path, "--config", other.with_name("config.yaml"))
    assert done.returncode == 2 and "does not fit its config" in done.stderr
    path.with_name("config.yaml").unlink()
    done = script("scripts/sample.py", path)
    assert done.returncode == 3 and "--config" in done.stderr


def test_a_folder_with_one_checkpoint_stands_for_it(tmp_path: Path) -> None:
    path = released(tmp_path, "ldm_uncond_kl_std")
    assert ldm.load(tmp_path, device="cpu").sample(n=1, settings={"steps": 1})
    (tmp_path / "other.ckpt").write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r"holds 2 checkpoints, model\.ckpt, other\.ckpt: name one"):
        ldm.load(tmp_path, device="cpu")


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda s: s.pop("model.diffusion_model.out.2.bias"), r"config: missing \['model.diffusion_model.out.2.bias'\]"),
        (lambda s: s.update({"what.is.this": torch.ones(1)}), "1 keys are left over, what.is.this"),
        (lambda s: s.update({"logvar": torch.ones(1000)}), "learn_logvar is false"),
        (lambda s: s.update({"betas": s["betas"] * 2}), "betas is not that of the config"),
        (lambda s: s.update({"first_stage_model.quant_conv.bias": torch.ones(99)}), "first_stage_model.quant_conv.bias is"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = released(tmp_path, "ldm_class_vq")
    state = read_state(path)
    change(state)
    torch.save({"state_dict": state}, path)
    with pytest.raises(UserError, match=message):
        load_model(str(path))


@pytest.mark.parametrize("kept,message", [(0, "holds no averages"), (1, r"config: missing \[.model_ema\.")])
def test_averages_that_the_config_promises_must_be_there(tmp_path: Path, kept: int, message: str) -> None:
    path = released(tmp_path, "ldm_uncond_kl_std")
    state = read_state(path)
    for key in [key for key in state if key.startswith("model_ema.diffusion")][kept:]:
        del state[key]
    if not kept:
        del state["model_ema.decay"], state["model_ema.num_updates"]
    torch.save({"state_dict": state}, path)
    with pytest.raises(UserError, match=message):
        load_model(str(path))


def test_averages_that_the_config_denies_are_left_out_and_said_so(script, tmp_path: Path) -> None:
    path = released(tmp_path / "in", "ldm_uncond_kl_std")
    tree = yaml.safe_load(path.with_name("config.yaml").read_text())
    tree["model"]["params"]["use_ema"] = False
    path.with_name("config.yaml").write_text(yaml.safe_dump(tree))
    state = read_state(path)
    assert torch.equal(load_model(str(path)).model.network.time[0].weight, state["model.diffusion_model.time_embed.0.weight"])
    done = script("scripts/convert.py", path, tmp_path / "x.safetensors", "--to", "ldm")
    assert done.returncode == 0 and "left out" in done.stdout and "model_ema" in done.stdout


@pytest.mark.parametrize("legacy", [False, True])
def test_leftovers_of_configs_are_harmless(tmp_path: Path, legacy: bool) -> None:
    import argparse
    from collections import defaultdict

    import numpy as np
    from omegaconf import OmegaConf
    from pytorch_lightning.utilities.parsing import AttributeDict

    content = {
        "state_dict": {"a": torch.ones(2)},
        "hyper_parameters": AttributeDict(rate=1.0, config=OmegaConf.create({"a": [1, {"b": 2}], "c": {"d": None}})),
        "more": [argparse.Namespace(x=1), Path("x"), frozenset({1}), np.float64(2.0), np.arange(3), defaultdict(list, a=[1])],
    }
    torch.save(content, tmp_path / "model.ckpt", _use_new_zipfile_serialization=not legacy)
    assert torch.equal(read_state(tmp_path / "model.ckpt")["a"], torch.ones(2))


def test_a_first_stage_that_should_be_stored_twice_must_be_equal(tmp_path: Path) -> None:
    path = released(tmp_path, "ldm_inpaint_vq")
    state = read_state(path)
    state["cond_stage_model.quant_conv.bias"] = state["cond_stage_model.quant_conv.bias"] + 1
    torch.save({"state_dict": state}, path)
    with pytest.raises(UserError, match="should be a copy"):
        load_model(str(path))


def stand_alone(folder: Path) -> Path:
    """A first stage with its loss, as its authors store it."""
    case = read_case(FOLDER, "kl_noattn")
    loss = {"target": "ldm.modules.losses.LPIPSWithDiscriminator", "params": {"disc_start": 1, "kl_weight": 1e-6, "disc_weight": 0.5}}
    params = {**case.params, "lossconfig": loss}
    folder.mkdir(exist_ok=True)
    tree = {"model": {"base_learning_rate": 4.5e-6, "target": "ldm.models.autoencoder.AutoencoderKL", "params": params}}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    extra = {"loss.logvar": torch.zeros(()), "loss.discriminator.main.0.weight": torch.rand(64, 3, 4, 4), "loss.odd": torch.ones(1)}
    torch.save({"state_dict": case.weights | extra}, folder / "model.ckpt")
    return folder / "model.ckpt"


def test_a_stand_alone_first_stage_keeps_what_has_a_place_of_its_loss(script, tmp_path: Path) -> None:
    path = stand_alone(tmp_path / "in")
    done = script("scripts/convert.py", path, tmp_path / "ours.safetensors", "--to", "ldm")
    assert done.returncode == 0 and "left out 1 keys that are not used here: loss.odd" in done.stdout
    names = read_weights(tmp_path / "ours.safetensors")[0]
    assert {"loss.discriminator.layers.0.weight", "loss.log_variance"} <= names.keys()
    done = script("scripts/convert.py", tmp_path / "ours.safetensors", tmp_path / "back", "--to", "compvis")
    before, after = read_state(path), read_state(tmp_path / "back" / "model.ckpt")
    assert before.keys() - after.keys() == {"loss.odd"} and all(torch.equal(before[key], after[key]) for key in after)
    # Stage two takes it from either file.
    one, two = (pretrained(str(p)) for p in (path, tmp_path / "ours.safetensors"))
    assert one.sha256 == two.sha256


def test_names_of_the_loss_are_those_of_our_loss() -> None:
    from ldm.first_stage import LPIPS, AutoencoderLoss
    from ldm.interop.compvis.state import LOSS_PREFIXES
    from ldm.networks import PatchDiscriminator

    ours = AutoencoderLoss(perceptual=LPIPS(), discriminator=PatchDiscriminator()).state_dict()
    theirs = ["loss.perceptual_loss.net.slice1.0.weight", "loss.perceptual_loss.lin0.model.1.weight", "loss.logvar"]
    theirs += ["loss.perceptual_loss.scaling_layer.shift", "loss.discriminator.main.3.running_mean"]
    for name in theirs:
        prefix = next(p for p in LOSS_PREFIXES if name.startswith(p))
        assert (LOSS_PREFIXES[prefix] + name.removeprefix(prefix)).removeprefix("loss.") in ours, name


def test_a_recorded_model_goes_to_diffusers_and_back(script, tmp_path: Path) -> None:
    path = released(tmp_path / "in", "ldm_class_vq")
    done = script("scripts/convert.py", path, tmp_path / "folder", "--to", "diffusers")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "folder" / "unet" / "config.json").read_text())["_class_name"] == "UNet2DConditionModel"
    more = ["--n", 1, "--classes", "3", "--steps", 2, "--outdir", tmp_path / "pictures"]
    done = script("scripts/sample.py", tmp_path / "folder", *more)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "pictures" / "00000.png") as image:
        assert image.size == (16, 16)
    done = script("scripts/convert.py", tmp_path / "folder", tmp_path / "back", "--to", "compvis")
    assert done.returncode == 0, done.stderr
    before, after = read_state(path), read_state(tmp_path / "back" / "model.ckpt")
    assert after.keys() == before.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_what_they_cannot_express_is_refused_with_the_reason(script, tmp_path: Path) -> None:
    path = released(tmp_path / "in", "ldm_class_vq")
    tensors_path = tmp_path / "ours.safetensors"
    assert script("scripts/convert.py", path, tensors_path, "--to", "ldm").returncode == 0
    from ldm.system.weights import save_weights

    tensors, metadata = read_weights(tensors_path)
    channels = metadata["config"]["model"]["params"]["model"]["params"]["network"]["params"]["out_channels"]
    flow = {"process": {"target": "ldm.diffusion.RectifiedFlow"}, "parameterization": "velocity"}
    for changes, more, message in (
        ({"parameterization": "v"}, {}, "parameterization 'v'"),
        (flow, {}, "process ldm.diffusion.RectifiedFlow"),
        ({"scale": [0.5] * channels}, {"scale": torch.full((channels, 1, 1), 0.5)}, "a scale or a mean for each channel"),
        ({"mean": [0.5] * channels}, {"mean": torch.full((channels, 1, 1), 0.5)}, "a scale or a mean for each channel"),
    ):
        changed = copy.deepcopy(metadata)
        changed["config"]["model"]["params"]["model"]["params"] |= changes
        save_weights(tmp_path / "changed.safetensors", tensors | more, changed)
        done = script("scripts/convert.py", tmp_path / "changed.safetensors", tmp_path / "out", "--to", "compvis")
        assert done.returncode == 2 and message in done.stderr and not (tmp_path / "out").exists(), done.stderr
    done = script("scripts/convert.py", path, tensors_path, "--to", "ldm")
    assert done.returncode == 2 and "already exists" in done.stderr
