"""Architecture, names and numbers against values recorded from the public reference."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import torch
from recorded import cases_in, judge, read_case, runner_for
from recorded.compvis.weights import from_compvis, to_compvis
from safetensors.torch import load_file, save_file

from ldm.config import AllowedTargets, build, load
from ldm.errors import UserError
from ldm.interop.compvis import names_of
from ldm.interop.compvis.autoencoder import autoencoder
from ldm.interop.compvis.unet import network

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "tests" / "fixtures" / "compvis"
KEYS = ROOT.parent / "shared" / "fixtures" / "compvis" / "keys"


# The whole folder where it lies beside the clone (CI), the project's own part of it elsewhere.
RECORDED = KEYS.parent if KEYS.is_dir() else FOLDER


@pytest.mark.parametrize("name", list(cases_in(RECORDED)))
def test_recorded_case(name: str) -> None:
    case = read_case(RECORDED, name)
    row = judge(case, runner_for(case))
    if row.left_out:
        pytest.skip(row.verdict)
    assert row.passed, row.reason


def test_the_script_passes_and_a_spoiled_case_fails_it(script, tmp_path: Path) -> None:
    done = script("scripts/parity.py", FOLDER)
    assert done.returncode == 0 and f"{len(list(cases_in(FOLDER))) - 1} passed, 0 failed, 1 unsupported" in done.stdout
    for ending in (".json", ".safetensors"):
        shutil.copy(FOLDER / f"class_embedder{ending}", tmp_path)
    tensors = load_file(tmp_path / "class_embedder.safetensors")
    tensors["out.context"] = tensors["out.context"] + 0.01
    save_file(tensors, tmp_path / "class_embedder.safetensors")
    done = script("scripts/parity.py", tmp_path)
    assert done.returncode == 1 and "context off by" in done.stdout
    facts = json.loads((tmp_path / "class_embedder.json").read_text())
    (tmp_path / "class_embedder.json").write_text(json.dumps({**facts, "target": "ldm.modules.Unheard"}))
    done = script("scripts/parity.py", tmp_path)
    assert done.returncode == 1 and "unknown kind of case" in done.stdout


@pytest.mark.parametrize("text,message", [("", "not a recorded case"), ("{}", "not a recorded case")])
def test_folders_that_hold_no_cases(script, tmp_path: Path, text: str, message: str) -> None:
    assert "no recorded cases" in script("scripts/parity.py", tmp_path).stderr
    (tmp_path / "x.json").write_text(text)
    (tmp_path / "x.safetensors").write_bytes(b"junk")
    done = script("scripts/parity.py", tmp_path)
    assert done.returncode == 1 and message in done.stdout and "0 passed, 1 failed" in done.stdout
    (tmp_path / "x.safetensors").unlink()
    assert script("scripts/parity.py", tmp_path).returncode == 1  # half a case is a failure, too


def test_names_there_and_back_are_the_same_bits() -> None:
    case = read_case(FOLDER, "unet_crossattn_d1")
    net = build(network(case.target, case.params), AllowedTargets())
    from_compvis(net, case.weights)
    back = to_compvis(net)
    assert back.keys() == case.weights.keys() and all(torch.equal(back[key], case.weights[key]) for key in back)


def test_missing_and_leftover_keys_are_named() -> None:
    case = read_case(FOLDER, "vq_basic")
    stage = build(autoencoder(case.target, case.params), AllowedTargets())
    weights = dict(case.weights)
    weights["something.else"] = weights.pop("quant_conv.bias")
    with pytest.raises(UserError, match=r"missing \['quant_conv\.bias'\], left over \['something\.else'\]"):
        from_compvis(stage, weights)


@pytest.mark.parametrize(
    "change,message",
    [({"widht": 3}, "unknown parameter 'widht'"), ({"dims": 3}, "dims=3 is not supported"), ({"context_dim": 4}, "go together")],
)
def test_unknown_parameters_are_named(change: dict, message: str) -> None:
    case = read_case(FOLDER, "unet_scale_shift")
    with pytest.raises(UserError, match=message):
        network(case.target, {**case.params, **change})


OFFICIAL = {  # our config -> (key table, prefix there, path of our part)
    **{
        f"first_stage/{ours}": (f"models-first_stage-{theirs}", "", "autoencoder")
        for ours, theirs in (
            *((same, same) for same in ("vq-f4", "vq-f4-noattn", "vq-f8", "vq-f8-n256", "vq-f16", "kl-f4", "kl-f8")),
            ("kl-f16-c16", "kl-f16"),
            ("kl-f32-c64", "kl-f32"),
        )
    },
    **{
        f"ldm/{ours}": (theirs, "model.diffusion_model.", "model.network")
        for ours, theirs in (
            ("celebahq-ldm4", "models-ldm-celeba256"),
            ("ffhq-ldm4", "models-ldm-ffhq256"),
            ("bedrooms-ldm4", "models-ldm-lsun_beds256"),
            ("churches-ldm8-kl", "models-ldm-lsun_churches256"),
            ("imagenet-ldm4", "configs-latent-diffusion-cin256-v2"),
            ("imagenet-ldm8-4.8M", "models-ldm-cin256"),
            ("text-ldm8-kl", "configs-latent-diffusion-txt2img-1p4B-eval"),
            ("layout-oi-ldm4", "models-ldm-layout2img-openimages256"),
            ("bsr-ldm4", "models-ldm-bsr_sr"),
            ("inpaint-ldm4-big", "models-ldm-inpainting_big"),
            ("semantic-256", "models-ldm-semantic_synthesis256"),
            ("semantic-512-ft", "models-ldm-semantic_synthesis512"),
        )
    },
}


@pytest.mark.skipif(not KEYS.is_dir(), reason="the key tables of the official configs are not beside this clone")
@pytest.mark.parametrize("config", OFFICIAL)
def test_full_size_names_and_shapes_are_the_official_ones(config: str) -> None:
    table, prefix, path = OFFICIAL[config]
    with gzip.open(KEYS / f"{table}.json.gz") as file:
        keys = json.load(file)["keys"]
    node = load([ROOT / "configs" / f"{config}.yaml"]).data["model"]
    for part in path.split("."):
        node = node["params"][part]
    with torch.device("meta"):
        module = build(node, AllowedTargets())
    state = module.state_dict()
    expected = {key.removeprefix(prefix): tuple(shape) for key, shape in keys.items() if key.startswith(prefix)}
    expected = {key: shape for key, shape in expected.items() if not (prefix == "" and key.startswith("loss."))}
    assert {theirs: tuple(state[ours].shape) for ours, theirs in names_of(module).items()} == expected
