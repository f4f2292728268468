"""All 32 official configs: translated, built, checked; their keys mapped there and back."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from official import trees

from ldm.checkpoint.foreign import FOREIGN
from ldm.checkpoint.source import unwrap
from ldm.config import AllowedTargets, build, load
from ldm.errors import UserError
from ldm.interop.compvis import is_compvis
from ldm.interop.compvis.state import first_stage_from_state, first_stage_to_state, from_state, to_state
from ldm.model import LatentDiffusion

ROOT = Path(__file__).resolve().parent.parent.parent
KEYS = ROOT.parent / "shared" / "fixtures" / "compvis" / "keys"
TREES = trees()
RATES = {  # base rate times batch size, but for Churches
    "configs-autoencoder-autoencoder_kl_32x32x4": 5.4e-5,
    "configs-latent-diffusion-celebahq-ldm-vq-4": 9.6e-5,
    "configs-latent-diffusion-lsun_churches-ldm-kl-8": 5e-5,
    "models-ldm-lsun_churches256": 5e-5,
    "models-ldm-cin256": 6.4e-5,
    "models-first_stage-vq-f8": 4.5e-5,
}


def model_of(name: str) -> Any:
    content = FOREIGN.translate(TREES[name], name)
    params = content["model"]["params"]
    node = unwrap(params["model"]) if "model" in params else params["autoencoder"]
    with torch.device("meta"):
        return build(node, AllowedTargets(), name)


@pytest.mark.parametrize("name", RATES)
def test_the_rate_is_explicit_and_global(name: str) -> None:
    assert FOREIGN.translate(TREES[name], name)["model"]["params"]["optimizer"]["params"]["lr"] == pytest.approx(RATES[name])


@pytest.mark.skipif(not KEYS.is_dir(), reason="the key tables of the official configs are not beside this clone")
@pytest.mark.parametrize("name", TREES)
def test_every_key_there_and_back(name: str) -> None:
    """Names and shapes at full size; tensors without memory of their own stand in for the weights."""
    with gzip.open(KEYS / f"{name}.json.gz") as file:
        keys = json.load(file)["keys"]
    model = model_of(name)
    state = {key: torch.zeros(()).expand(shape) for key, shape in keys.items()}
    if isinstance(model, LatentDiffusion):
        real = to_state(model, from_state(model, {k: v for k, v in state.items() if k not in ("betas", "alphas_cumprod")}, name))
        weights = from_state(model, {**state, "betas": real["betas"], "alphas_cumprod": real["alphas_cumprod"]}, name)
        back = to_state(model, weights)
    else:
        weights = first_stage_from_state(model, state, name)
        back = first_stage_to_state(model, weights)
    assert weights.dropped == []
    assert {key: list(value.shape) for key, value in back.items()} == keys


@pytest.mark.parametrize(
    "name",
    [
        "models-ldm-inpainting_big",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("models-ldm-lsun_churches256", "models-first_stage-vq-f8-n256")),
    ],
)
def test_check_of_an_official_yaml(name: str, run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(TREES[name]))
    done = run(ROOT / "main.py", "--base", tmp_path / "config.yaml", "--check", cwd=tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "wrong:" not in done.stdout


def test_ours_are_left_alone() -> None:
    for path in (ROOT / "configs").rglob("*.yaml"):
        content = yaml.safe_load(path.read_text()) or {}
        assert not is_compvis(content), path


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda t: t["model"]["params"].update(unet_confg={}), "unknown parameter 'unet_confg'"),
        (lambda t: t["model"]["params"]["unet_config"].update(target="ldm.x.Other"), "Other"),
        (
            lambda t: t["model"]["params"]["first_stage_config"].update(target="ldm.x.Other"),
            "first_stage_config: unknown target 'ldm.x.Other'",
        ),
        (lambda t: t["model"]["params"].update(cond_stage_config={"target": "a.b"}), "cond_stage_config: unknown target 'a.b'"),
        (lambda t: t["model"].update(target="ldm.models.diffusion.ddpm.Other"), "unknown target"),
        (lambda t: t["model"].update(extra=1), "unknown key 'extra'"),
        (lambda t: t["data"]["params"]["train"].update(target="my.Data"), "unknown target 'my.Data'"),
        (lambda t: t.update(lightnin={}), "unknown parameter 'lightnin'"),
    ],
)
def test_what_is_unknown_is_named(change: Any, message: str, tmp_path: Path) -> None:
    tree = trees()["models-ldm-celeba256"]
    change(tree)
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError, match=message) as error:
        load([tmp_path / "x.yaml"], foreign=FOREIGN)
    assert "x.yaml" in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t["data"]["params"].update(batch_size="many"),
        lambda t: t["data"]["params"]["train"]["params"].update(size="abc"),
        lambda t: t["model"]["params"].update(linear_start=None),
        lambda t: t["model"]["params"]["unet_config"]["params"].update(attention_resolutions=8),
        lambda t: t["model"]["params"]["first_stage_config"]["params"]["ddconfig"].update(ch_mult=None),
    ],
)
def test_values_of_another_kind_are_one_clear_error(change: Any, tmp_path: Path) -> None:
    tree = trees()["models-ldm-lsun_beds256"]
    change(tree)
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError, match=r"x\.yaml"):
        load([tmp_path / "x.yaml"], foreign=FOREIGN)


def test_the_rate_of_churches_goes_by_the_data_not_by_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "churches"
    folder.mkdir()
    (folder / "celebahq.yaml").write_text(yaml.safe_dump(TREES["models-ldm-lsun_beds256"]))
    assert load([folder / "celebahq.yaml"], foreign=FOREIGN).data["model"]["params"]["optimizer"]["params"]["lr"] == pytest.approx(9.6e-5)


def test_their_files_and_overrides_merge_in_their_words(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(TREES["configs-latent-diffusion-cin256-v2"]))
    (tmp_path / "b.yaml").write_text(yaml.safe_dump({"data": {**TREES["models-ldm-cin256"]["data"]}}))
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"model": {"params": {"unet_config": {"params": {"model_channels": 64}}}}}))
    (tmp_path / "d.yaml").write_text(yaml.safe_dump({"trainer": {"params": {"steps": 7}}}))
    words = ["model.params.first_stage_config.params.ddconfig.ch=32", "data.params.workers=1"]
    params = load([tmp_path / f"{name}.yaml" for name in "abcd"], words, foreign=FOREIGN).data
    model = params["model"]["params"]["model"]["params"]
    assert params["model"]["params"]["optimizer"]["params"]["lr"] == pytest.approx(1e-4 * 64)
    assert model["network"]["params"]["width"] == 64 and model["first_stage"]["params"]["model"]["params"]["width"] == 32
    assert params["trainer"]["params"]["steps"] == 7 and params["data"]["params"]["workers"] == 1
