"""First stages of other programs: by one path in a config, with the scale of their latents."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from first_stage.others import KINDS, NODE, Other, dc, sd, sd3, tiny, va_vae, vq
from PIL import Image
from torchvision.utils import save_image

import ldm
from ldm.checkpoint.load import pretrained
from ldm.checkpoint.read import read_first_stage
from ldm.config import AllowedTargets, build
from ldm.data.images import to_tensor
from ldm.errors import UserError
from ldm.first_stage import AutoencoderLoss
from ldm.first_stage.diffusers import DiffusersAutoencoder
from ldm.interop.compvis import node_of
from ldm.rng import StepRNG
from ldm.training import AutoencoderTraining
from ldm.training.stage2 import not_normalized

pytest.importorskip("diffusers", reason="diffusers is not installed: pip install -e .[dev]")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_it_encodes_as_its_own_program_and_states_its_latents(tmp_path: Path, kind: Callable[[Path], Other]) -> None:
    other = kind(tmp_path / "other")
    stage = pretrained(str(other.path))
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        z = stage.encode(x)
        assert (z - other.encode(x)).abs().max() < 1e-4 * z.std()
        assert z.shape[1:] == stage.latent_shape(32, 32) and stage.decode(z).shape == x.shape
    assert stage.latents == other.latents


SMALL = [
    "trainer.params.steps=2",
    "trainer.params.devices=1",
    "trainer.params.images_every=0",
    "data.params.batch_size=4",
    "data.params.workers=0",
]
DATA = [f"data.params.{name}.params.size=32" for name in ("train", "validation")]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colours that differ between images, so that latents vary."""
    folder = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for i in range(20):
        low = torch.rand(3, 4, 4, generator=generator)[None]
        save_image(torch.nn.functional.interpolate(low, size=(48, 48), mode="bilinear")[0], folder / f"{i}.png")
    return folder


def network(channels: int) -> list[str]:
    at = "model.params.model.params.network.params"
    return [
        f"{at}.in_channels={channels}",
        f"{at}.out_channels={channels}",
        f"{at}.width=32",
        f"{at}.width_mult=[1,2]",
        f"{at}.attention_at=[]",
    ]


def runs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


@pytest.mark.slow
def test_a_stage_two_config_takes_another_structure_and_its_scale(tmp_path: Path, images: Path, script: Any) -> None:
    """Checked, trained and sampled from the run alone, whose config has the numbers."""
    other = va_vae(tmp_path / "other")
    words = [f"paths.images={images}", f"paths.first_stage={other.path}", *DATA, *SMALL, *network(4)]
    logs = ["--logdir", str(tmp_path / "logs")]
    done = script("main.py", "--base", "configs/own/ldm.yaml", "--train", *words, *logs)
    assert done.returncode == 0, done.stderr
    (run,) = runs(tmp_path / "logs")
    params = yaml.safe_load((run / "config.yaml").read_text())["model"]["params"]["model"]["params"]
    assert {"scale": params["scale"], "mean": params["mean"]} == other.latents
    assert params["first_stage"]["params"] == {"checkpoint": str(other.path)}
    model = ldm.load(str(run)).model
    assert (
        model.scale.flatten().tolist() == pytest.approx(other.latents["scale"]) and model.mean.flatten().tolist() == other.latents["mean"]
    )
    assert script("main.py", "--resume", run, "trainer.params.steps=3").returncode == 0


WRONG = [  # what paths.first_stage is, further words, what the one line says
    ("missing.safetensors", [], 3, "missing.safetensors: no such file"),
    ("network", [], 2, "network/config.json: _class_name='UNet2DModel', expected"),
    ("text.ckpt", [], 2, "text.ckpt: cannot be read"),
    ("sd", network(8), 2, "network.in_channels is 8, but the first stage gives 4 channels"),
    ("sd", [*network(4), "data.params.train.params.size=33"], 2, "image size 33x33 is not a multiple of"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name,words,code,message", WRONG)
def test_what_does_not_fit_is_one_line_of_the_check(
    tmp_path: Path, images: Path, script: Any, name: str, words: list[str], code: int, message: str
) -> None:
    sd(tmp_path / "sd")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    given = [f"paths.images={images}", f"paths.first_stage={tmp_path / name}", *DATA, *SMALL, *(words or network(4))]
    done = script("main.py", "--base", "configs/own/ldm.yaml", "--check", *given)
    lines = [line for line in done.stdout.splitlines() if message in line]
    assert done.returncode == code and len(lines) == 1, done.stdout
    assert "model.params" in lines[0] or "data.params" in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("given,told", [("5.0", True), ("std", False), ("first_stage", False)])
def test_latents_that_are_not_normalized_are_noticed(
    tmp_path: Path, images: Path, script: Any, caplog: Any, given: str, told: bool
) -> None:
    other = sd(tmp_path / "sd")
    z = other.encode(torch.stack([to_tensor(Image.open(path)) for path in sorted(images.iterdir())])[..., :32, :32])
    (tmp_path / "sd" / "config.json").write_text(
        json.dumps(json.loads((tmp_path / "sd" / "config.json").read_text()) | {"scaling_factor": 1.0 / float(z.std())})
    )
    scale = f"model.params.model.params.scale={5.0 / float(z.std()) if given == '5.0' else given}"
    words = [f"paths.images={images}", f"paths.first_stage={other.path}", *DATA, *SMALL, *network(4), scale]
    message = r"latents have std [\d.]+: set model.params.model.params.scale: (std|channels)"
    done = script("main.py", "--base", "configs/own/ldm.yaml", "--check", *words)
    assert done.returncode == 0 and len(re.findall(message, done.stdout)) == int(told), done.stdout
    done = script("main.py", "--base", "configs/own/ldm.yaml", "--train", *words, "--logdir", str(tmp_path / "logs"))
    assert done.returncode == 0, done.stderr
    assert len(re.findall(message, caplog.text)) == int(told)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [sd, vq, dc, tiny, va_vae], ids=lambda kind: kind.__name__)
def test_fine_tuning_the_decoder_leaves_latents_bit_equal(tmp_path: Path, images: Path, script: Any, kind: Callable[[Path], Other]) -> None:
    """From any kind, by the own config; what it ends in keeps the scale of latents, resumes, and exports to diffusers."""
    other = kind(tmp_path / "other")
    before = pretrained(str(other.path))
    words = [f"paths.images={images}", f"paths.start={other.path}", *DATA, *SMALL, "--logdir", str(tmp_path / "logs")]
    done = script("main.py", "--base", "configs/own/first-stage-fine-tune.yaml", "--train", *words)
    assert done.returncode == 0, done.stderr
    (run,) = runs(tmp_path / "logs")
    shutil.move(tmp_path / "other", tmp_path / "moved")  # the run does not need it
    assert script("main.py", "--resume", run, "trainer.params.steps=4").returncode == 0
    after = pretrained(str(run))
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        z = before.encode(x)
        assert torch.equal(z, after.encode(x)) and not torch.equal(before.decode(z), after.decode(z))
    assert after.latents == other.latents
    done = script("scripts/convert.py", run, tmp_path / "exported", "--to", "diffusers")
    assert done.returncode == 0, done.stderr
    exported = pretrained(str(tmp_path / "exported"))
    with torch.no_grad():
        assert torch.equal(exported.encode(x), after.encode(x)) and _close(exported.latents, other.latents)


@pytest.mark.slow
def test_fine_tuning_everything_changes_latents(tmp_path: Path, images: Path, script: Any) -> None:
    other = sd(tmp_path / "other")
    words = [f"paths.images={images}", f"paths.start={other.path}", *DATA, *SMALL, "--logdir", str(tmp_path / "logs")]
    done = script("main.py", "--base", "configs/own/first-stage-fine-tune.yaml", "--train", *words, "model.params.train_only=null")
    assert done.returncode == 0, done.stderr
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    after = pretrained(str(runs(tmp_path / "logs")[0]))
    assert not torch.equal(pretrained(str(other.path)).encode(x), after.encode(x)) and after.latents == other.latents


def test_a_file_cannot_name_another_class_of_diffusers() -> None:
    with pytest.raises(UserError, match="kind: expected AutoencoderDC or AutoencoderTiny, got 'ModularPipeline'"):
        DiffusersAutoencoder("ModularPipeline", {"pretrained_model_name_or_path": "someone/something"})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [dc, tiny])
def test_a_scale_that_is_not_stated_is_none(kind: Callable[[Path], Other], tmp_path: Path) -> None:
    path = kind(tmp_path / "stage").path / "config.json"
    settings = json.loads(path.read_text())
    settings.pop("scaling_factor", None)
    path.write_text(json.dumps(settings))
    assert read_first_stage(str(path.parent)).latents is None


def test_without_diffusers_what_needs_it_is_refused_by_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = dc(tmp_path / "other")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(
        UserError, match="AutoencoderDC is a network of the package diffusers, which is not installed: pip install diffusers"
    ):
        pretrained(str(other.path))


def _close(found: dict[str, Any] | None, expected: dict[str, Any] | None) -> bool:
    found, expected = found or {}, expected or {}
    return found.keys() == expected.keys() and all(found[key] == pytest.approx(expected[key]) for key in found)


VQ: dict[str, Any] = {
    "target": "ldm.first_stage.VQAutoencoder",
    "params": {"channels": 3, "codebook_size": 16, "width": 32, "width_mult": [1, 2], "blocks_per_level": 1, "dropout": 0.1},
}


@pytest.mark.parametrize("node", [NODE, VQ], ids=["kl", "vq"])
def test_only_the_decoder_is_trained(node: dict[str, Any]) -> None:
    """No parameter of the encoder or codebook changes, and dropout in the encoder is off."""
    stage = build(node, AllowedTargets())
    module = AutoencoderTraining(stage, AutoencoderLoss(), partial(torch.optim.AdamW, lr=1e-2), train_only="decoder").train()
    before = {name: value.clone() for name, value in stage.state_dict().items()}
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(stage.encode(x), stage.encode(x))
    module.manual_backward = lambda loss: loss.backward()
    module.update({"image": x, "id": ["a", "b"]}, StepRNG(0, 0, ["a", "b"]))
    module.try_optimizers()
    changed = {name for name, value in stage.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith(stage.decoder_parts)}


@pytest.mark.parametrize(
    "factor,offset,expected,said",
    [
        (1.0, 0.0, None, ""),
        (5.4, 0.0, None, "latents have std 5.4: set model.params.model.params.scale: std"),
        (0.1, 0.0, None, "latents have std 0.1: set model.params.model.params.scale: std"),
        (1.0, 5.0, None, "set model.params.model.params.scale: channels"),
        (0.5, 0.0, 0.5, ""),
        (5.4, 0.0, 0.5, "the process expects 0.5 (sigma_data): set model.params.model.params.scale: std, and sigma_data: 1.0"),
    ],
)
def test_the_warning_says_the_number_and_the_key(factor: float, offset: float, expected: float | None, said: str) -> None:
    z = torch.randn(8, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    z = factor * z / z.std() + offset * torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 4, 1, 1)
    assert (said in "".join(not_normalized(z, expected))) and bool(said) == bool(not_normalized(z, expected))


@pytest.mark.slow
@pytest.mark.parametrize("kind,channels", [(dc, 8), (tiny, 4), (sd3, 4), (vq, 3)], ids=["dc", "tiny", "sd3", "vq"])
def test_stage_two_on_it_is_trained_sampled_exported_and_published(
    tmp_path: Path, images: Path, script: Any, kind: Callable[[Path], Other], channels: int
) -> None:
    other = kind(tmp_path / "other")
    words = [f"paths.images={images}", f"paths.first_stage={other.path}", *DATA, *SMALL, *network(channels)]
    done = script("main.py", "--base", "configs/own/ldm.yaml", "--train", *words, "--logdir", str(tmp_path / "logs"))
    assert done.returncode == 0, done.stderr
    (run,) = runs(tmp_path / "logs")
    done = script("main.py", "--resume", run, "trainer.params.steps=3")
    assert done.returncode == 0, done.stderr
    done = script("scripts/sample.py", run, "--n", "2", "--steps", "2", "--outdir", tmp_path / "samples")
    assert done.returncode == 0 and len(list((tmp_path / "samples").glob("0*.png"))) == 2, done.stderr
    done = script("scripts/publish.py", run, tmp_path / "published", "--unfinished")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "other")
    model = ldm.load(str(tmp_path / "published")).model
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    done = script("scripts/convert.py", tmp_path / "published", tmp_path / "exported", "--to", "diffusers")
    if kind is sd3:
        assert done.returncode == 2 and "a scale or a mean for each channel of the latents; diffusers' LDMPipeline" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    again = ldm.load(str(tmp_path / "exported")).model
    assert torch.equal(model.encode(x), again.encode(x))


@pytest.mark.slow
def test_what_new_writes_takes_one(tmp_path: Path, images: Path, script: Any) -> None:
    other = sd(tmp_path / "other")
    assert script("scripts/new.py", images, "--out", tmp_path / "mine", "--memory", "0", "--task", "unconditional").returncode == 0
    done = script("main.py", "--base", tmp_path / "mine" / "unconditional.yaml", "--check", f"paths.first_stage={other.path}")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["encoder.down.5000000000.x", "encoder.down.0.block.5000000000.x"])
def test_a_number_in_a_name_does_not_take_memory(name: str) -> None:
    needed = ("encoder.conv_in", "encoder.conv_out", "quant_conv", "post_quant_conv", "encoder.down.0.block.0.conv2")
    state = {f"{key}.weight": torch.zeros(32, 3, 1, 1) for key in needed} | {name: torch.zeros(1)}
    try:
        node = node_of(state)
    except UserError:
        return
    assert node is not None and node["params"]["blocks_per_level"] < 10
