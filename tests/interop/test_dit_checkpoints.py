"""Checkpoints of DiT, SiT and LightningDiT: recorded values, names at full size, and files in and out through the scripts."""

import gzip
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from recorded import cases_in, judge, read_case, runner_for
from recorded.dit.networks import architecture
from safetensors.torch import save_file
from torch import Tensor

from ldm.checkpoint.load import load_model
from ldm.checkpoint.read import read_source
from ldm.config import AllowedTargets, build
from ldm.errors import UserError
from ldm.first_stage import KLAutoencoder
from ldm.interop.compvis.state import Weights, first_stage_to_state
from ldm.interop.diffusers import write_folder
from ldm.interop.dit import from_state, to_state
from ldm.system.weights import read_weights

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "tests" / "fixtures" / "dit"
WHOLE = ROOT.parent / "shared" / "fixtures" / "dit"
RECORDED = WHOLE if WHOLE.is_dir() else FOLDER
CONFIGS = {"dit": "imagenet-dit-xl2-256", "sit": "imagenet-sit-xl2-256", "lightningdit": "imagenet-lightningdit-xl1-256"}
CASES = {"dit": "dit_p2_sigma", "sit": "sit_p2_sigma", "lightningdit": "lightning_official"}


@pytest.mark.parametrize("name", list(cases_in(RECORDED)))
def test_recorded_case(name: str) -> None:
    case = read_case(RECORDED, name)
    row = judge(case, runner_for(case))
    if row.left_out:
        pytest.skip(row.verdict)
    assert row.passed, row.reason


def test_the_script_shows_what_is_left_out_and_why(script) -> None:
    done = script("scripts/parity.py", FOLDER)
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert done.returncode == 0, done.stdout
    assert "pass; unsupported: solver heun3 is not built" in lines["sit_ode"] and "unsupported: EDM2's learning" in lines["edm2_lr"]
    assert "1 unsupported" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("name", [facts["name"] for facts in json.loads((FOLDER / "keys" / "index.json").read_text())])
def test_full_size_names_and_shapes_are_the_published_ones(name: str) -> None:
    with gzip.open(FOLDER / "keys" / f"{name}.json.gz") as file:
        facts = json.load(file)
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in facts["keys"].items()}
        made = architecture(facts["params"], name.partition("-")[0])
        back = to_state(made, from_state(made, state, {}, name))
    assert {key: value.shape for key, value in back.items()} == {key: value.shape for key, value in state.items()}
    assert sum(p.numel() for part in (made.network, made.conditioner) for p in part.parameters()) == facts["counts"]["trainable"]


def tiny(folder: Path, kind: str, **network: Any) -> Path:
    """The config of a released model at the size of a recorded case, on a first stage of factor 2."""
    case = read_case(FOLDER, CASES[kind])
    p = case.params
    width = p["hidden_size"]
    shape = {"width": width, "depth": p["depth"], "heads": p["num_heads"], "size": p["input_size"], "patch": p["patch_size"]}
    params = {
        "network": {
            "params": {**shape, "vector_channels": width, "in_channels": p["in_channels"], "out_channels": p["in_channels"], **network}
        },
        "conditioner": {"params": {"num_classes": p["num_classes"], "width": width}},
        "first_stage": {
            "params": {"model": {"params": {"channels": p["in_channels"], "width": 32, "width_mult": [1, 2], "blocks_per_level": 1}}}
        },
    }
    size = {"params": {"size": 2 * p["input_size"]}}
    content = {
        "base": [str(ROOT / "configs" / "dit" / f"{CONFIGS[kind]}.yaml")],
        "model": {"params": {"model": {"params": params}}},
        "data": {"params": {"train": size, "validation": size}},
        "paths": {"latent_stats": str(folder / "elsewhere.pt")},
    }
    path = folder / f"{kind}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def first_stage(folder: Path, channels: int) -> Path:
    """As diffusers stores an autoencoder."""
    settings = {"channels": channels, "width": 32, "width_mult": [1, 2], "blocks_per_level": 1}
    torch.manual_seed(5)
    stage = KLAutoencoder(**settings).eval()
    write_folder(stage, {"target": "ldm.first_stage.KLAutoencoder", "params": settings}, folder, None)
    return folder


def aligned_first_stage(path: Path, channels: int) -> Path:
    """As VA-VAE is released: CompVis' names, beside a vision model that only its training needs."""
    stage = KLAutoencoder(channels, width=32, width_mult=[1, 2], blocks_per_level=1)
    state = first_stage_to_state(stage, Weights(dict(stage.state_dict())))
    torch.save({"state_dict": state | {"foundation_model.model.cls_token": torch.zeros(1), "loss.logvar": torch.zeros(())}}, path)
    return path


def statistics(path: Path, channels: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(6)
    mean, std = torch.randn(1, channels, 1, 1), torch.rand(1, channels, 1, 1) + 0.5
    torch.save({"mean": mean, "std": std}, path)
    return mean[0], std[0]


@pytest.mark.parametrize("kind", CASES)
def test_a_released_file_samples_and_goes_back_bit_by_bit(script, tmp_path: Path, kind: str) -> None:
    case = read_case(FOLDER, CASES[kind])
    config, channels = tiny(tmp_path, kind), case.params["in_channels"]
    make = aligned_first_stage if kind == "lightningdit" else first_stage
    stage = make(tmp_path / "vae.pt", channels)
    torch.save(case.weights, tmp_path / "released.pt")
    statistics(tmp_path / "latents_stats.pt", channels)
    more = ("--config", config, "--first-stage", stage)
    drawn = ("--n", 2, "--classes", "1,2", "--steps", 3, "--seed", 4, "--device", "cpu", "--scale", 2)
    done = script("scripts/sample.py", tmp_path / "released.pt", *more, *drawn, "--outdir", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    done = script("scripts/convert.py", tmp_path / "released.pt", tmp_path / "ours.safetensors", "--to", "ldm", *more)
    assert done.returncode == 0, done.stderr
    done = script("scripts/sample.py", tmp_path / "ours.safetensors", *drawn, "--outdir", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    for name in ("00000.png", "00001.png"):
        a, b = (Image.open(tmp_path / folder / name) for folder in "ab")
        assert a.size == (2 * case.params["input_size"],) * 2 and a.tobytes() == b.tobytes()
    for target in ("back.pt", "back.safetensors"):
        assert script("scripts/convert.py", tmp_path / "ours.safetensors", tmp_path / target, "--to", "dit").returncode == 0
    for back in (torch.load(tmp_path / "back.pt", weights_only=True), read_weights(tmp_path / "back.safetensors")[0]):
        assert back.keys() == case.weights.keys() and all(torch.equal(back[key], case.weights[key]) for key in back)


def test_the_sign_and_the_time_of_a_flow_are_translated(tmp_path: Path) -> None:
    """Near noise, a step of SiT goes from its t = 0 towards data; ours from t = 1 down."""
    case = read_case(FOLDER, CASES["sit"])
    torch.save(case.weights, tmp_path / "sit.pt")
    loaded = load_model(str(tmp_path / "sit.pt"), str(first_stage(tmp_path / "vae", 4)), config=str(tiny(tmp_path, "sit"))).model
    c = loaded.condition({"label": case.inputs["y"]})
    with torch.no_grad():
        assert torch.allclose(-loaded.output(case.inputs["x"], 1.0 - case.inputs["t"], c), case.outputs["y"], atol=1e-4)


def test_training_files_keep_the_average_and_what_it_averages(script, tmp_path: Path) -> None:
    case, config = read_case(FOLDER, CASES["sit"]), tiny(tmp_path, "sit")
    raw = {key: value + 1.0 for key, value in case.weights.items()}
    content = {"model": {f"module.{key}": value for key, value in raw.items()}, "ema": case.weights, "opt": {}, "args": Namespace(seed=0)}
    torch.save(content, tmp_path / "0400000.pt")
    done = script("scripts/convert.py", tmp_path / "0400000.pt", tmp_path / "again", "--to", "dit", "--config", config)
    assert done.returncode == 0, done.stderr
    back = torch.load(tmp_path / "again" / "model.pt", weights_only=True)
    for name, state in (("model", raw), ("ema", case.weights)):
        assert back[name].keys() == state.keys() and all(torch.equal(back[name][key], state[key]) for key in state)


def test_files_without_variances_or_without_a_null_class_are_taken_as_they_are(tmp_path: Path) -> None:
    case = read_case(FOLDER, CASES["dit"])
    weights = {key: value[: len(value) // 2] if key.startswith("final_layer.linear") else value for key, value in case.weights.items()}
    weights["y_embedder.embedding_table.weight"] = weights["y_embedder.embedding_table.weight"][:-1]
    save_file({key: value.contiguous() for key, value in weights.items()}, tmp_path / "dit.safetensors")
    source = read_source(str(tmp_path / "dit.safetensors"), str(tiny(tmp_path, "dit")))
    assert len(source.notes) == 2 and "learn_sigma is false" in source.notes[0] and "no null class" in source.notes[1]
    assert source.weights.tensors["network.final.linear.weight"].shape == (16, 48)


def test_latents_are_centred_and_scaled_channel_by_channel(tmp_path: Path) -> None:
    case, config = read_case(FOLDER, CASES["lightningdit"]), tiny(tmp_path, "lightningdit")
    torch.save(case.weights, tmp_path / "released.pt")
    mean, std = statistics(tmp_path / "elsewhere.pt", 32)
    source = read_source(str(tmp_path / "released.pt"), str(config))
    assert torch.equal(source.weights.tensors["mean"], mean) and torch.equal(source.weights.tensors["scale"], 1.0 / std)
    loaded = load_model(str(tmp_path / "released.pt"), str(first_stage(tmp_path / "vae", 32)), config=str(config)).model
    z = torch.randn(2, 32, 4, 4)
    assert torch.allclose(loaded.scaled(z), (z - mean) / std, atol=1e-5) and torch.allclose(loaded.unscaled(loaded.scaled(z)), z, atol=1e-5)


def test_what_does_not_fit_is_said_in_one_line(script, tmp_path: Path) -> None:
    case = read_case(FOLDER, CASES["lightningdit"])
    torch.save(case.weights, tmp_path / "released.pt")

    def said(code: int, *flags: object) -> str:
        done = script("scripts/convert.py", tmp_path / "released.pt", tmp_path / "ours.safetensors", "--to", "ldm", *flags)
        assert done.returncode == code and done.stderr.count("\n") == 1, done.stderr
        return str(done.stderr)

    assert "--config FILE" in said(3)
    assert "latents_stats.pt" in said(3, "--config", tiny(tmp_path, "lightningdit"))
    assert "missing ['blocks.0.mlp.fc1.bias'" in said(2, "--config", tiny(tmp_path, "sit"))
    assert "left over ['feat_rope.freqs_cos', 'feat_rope.freqs_sin']" in said(2, "--config", tiny(tmp_path, "lightningdit", rotary=False))
    assert "pos_embed is (1, 16, 48), expected (1, 64, 48)" in said(2, "--config", tiny(tmp_path, "lightningdit", size=8))
    statistics(tmp_path / "latents_stats.pt", 16)
    assert "expected mean and std of shape (1, 32, 1, 1)" in said(2, "--config", tiny(tmp_path, "lightningdit"))


def test_other_models_have_no_place_in_their_files() -> None:
    unet = {"target": "ldm.networks.UNet", "params": {"in_channels": 1, "out_channels": 1, "width": 32, "width_mult": [1], "heads": 1}}
    dit = {
        "target": "ldm.networks.DiT",
        "params": {"in_channels": 1, "out_channels": 1, "patch": 2, "width": 32, "depth": 1, "heads": 2, "size": 4},
    }
    classes = {"target": "ldm.conditioning.ClassVector", "params": {"num_classes": 3, "width": 16}}
    flow = {"target": "ldm.diffusion.RectifiedFlow", "params": {}}
    noise = {"target": "ldm.diffusion.linear", "params": {}}
    vector = {**dit, "params": {**dit["params"], "vector_channels": 16}}
    same = {**dit, "params": {**dit["params"], "vector_channels": 32}}
    wide = {**classes, "params": {"num_classes": 3, "width": 32}}
    for parts, reason in (
        ({"network": unet, "process": noise}, "is a UNet"),
        ({"network": dit, "process": noise}, "Unconditional"),
        ({"network": vector, "process": noise, "conditioner": classes}, "network.vector.weight has no counterpart"),
        ({"network": same, "process": flow, "conditioner": wide, "parameterization": "velocity"}, "time_reversed"),
    ):
        stage = {"target": "ldm.first_stage.IdentityFirstStage", "params": {"channels": 1}}
        made = build({"target": "ldm.model.LatentDiffusion", "params": {"first_stage": stage, **parts}}, AllowedTargets())
        with pytest.raises(UserError, match=reason):
            to_state(made, Weights(dict(made.state_dict())))
