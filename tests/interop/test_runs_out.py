"""An official YAML that trains, and a run of ours converted to CompVis and diffusers."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from programs import Programs
from test_checkpoints import FOLDER, read_case, stand_alone

from ldm.checkpoint.load import load_model

SHORT = [
    "trainer.params.log_every=1",
    "trainer.params.images_every=0",
    "trainer.params.validate_every=0",
    "trainer.params.precision=32-true",
]


def pictures(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for kind in "ab":
        (folder / kind).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(folder / kind / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def official_run(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of an official YAML on a first stage in an official checkpoint, on pictures of our own."""
    tmp = tmp_path_factory.mktemp("official")
    tree = read_case(FOLDER, "ldm_class_vq").params["model"]
    stage = read_case(FOLDER, "kl_noattn")
    checkpoint = stand_alone(tmp / "stage")
    params = {**stage.params, "ckpt_path": str(checkpoint), "lossconfig": {"target": "torch.nn.Identity"}}
    tree["params"]["first_stage_config"] = {"target": "ldm.models.autoencoder.AutoencoderKL", "params": params}
    z = params["embed_dim"]
    tree["params"]["unet_config"]["params"] |= {"in_channels": z, "out_channels": z}
    tree["params"] |= {"channels": z, "use_ema": True, "scale_by_std": True}
    size = {"size": 16, "resize": 16}
    data = {"target": "main.DataModuleFromConfig", "params": {"batch_size": 4}}
    data["params"] |= {
        part: {"target": "ldm.data.imagenet.ImageNetTrain", "params": {"config": {"size": 16}}} for part in ("train", "validation")
    }
    (tmp / "official.yaml").write_text(yaml.safe_dump({"model": tree, "data": data}))
    ours = {
        part: {"target": "ldm.data.ImageFolder", "params": {"root": str(pictures(tmp / part)), "labels": True, **size}}
        for part in ("train", "validation")
    }
    (tmp / "more.yaml").write_text(yaml.safe_dump({"data": {"params": {"workers": 0, **ours}}, "trainer": {"params": {"steps": 2}}}))
    words = ["main.py", "--base", tmp / "official.yaml", tmp / "more.yaml", "--train", "-l", tmp / "logs", *SHORT]
    done = programs.run(words)
    assert done.returncode == 0, done.stderr
    return next((tmp / "logs").iterdir())


def test_an_official_yaml_trains(official_run: Path) -> None:
    config = yaml.safe_load((official_run / "config.yaml").read_text())
    assert config["model"]["params"]["optimizer"]["params"]["lr"] == pytest.approx(4e-6)  # 1e-6 x batch 4, global
    model = load_model(str(official_run)).model
    assert float(model.scale) > 0


@pytest.mark.parametrize("to", ["compvis", "ldm"])
def test_a_run_leaves_and_comes_back(official_run: Path, script, tmp_path: Path, to: str) -> None:
    out = tmp_path / "out"
    done = script("scripts/convert.py", official_run, out, "--to", to)
    assert done.returncode == 0, done.stderr
    model = str(out)
    for raw in (False, True):
        a, b = load_model(str(official_run), raw=raw).model, load_model(model, raw=raw).model
        assert all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())
    ema, trained = (load_model(model, raw=raw).model.network.conv_out.weight for raw in (False, True))
    assert not torch.equal(ema, trained)


def test_a_run_leaves_for_diffusers(official_run: Path, script, tmp_path: Path) -> None:
    done = script("scripts/convert.py", official_run, tmp_path / "out", "--to", "diffusers")
    assert done.returncode == 0, done.stderr
    a, b = load_model(str(official_run)).model, load_model(str(tmp_path / "out")).model
    assert all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def test_what_diffusers_cannot_express_is_refused(run, script, tmp_path: Path) -> None:
    """The demos' first stage begins with a space-to-depth step."""
    done = run("main.py", "-b", "configs/demo/digits-first-stage.yaml", "-t", "-l", tmp_path, "trainer.params.steps=1", *SHORT)
    assert done.returncode == 0, done.stderr
    folder = next(tmp_path.iterdir())
    for to, message in (("diffusers", "stem"), ("compvis", "stem=2")):
        done = script("scripts/convert.py", folder, tmp_path / "out", "--to", to)
        assert done.returncode == 2 and message in done.stderr and not (tmp_path / "out").exists()
