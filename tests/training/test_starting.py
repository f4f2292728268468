"""Fine-tuning of a model that differs from the one that was trained: what fits is loaded, the rest is listed."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from ldm.checkpoint.load import starting_weights
from ldm.checkpoint.start import StartingWeights, begin_with, own_weights
from ldm.cli.main import main
from ldm.conditioning import ClassEmbedding, ConcatImage, Conditioner, Joint, LabelVector
from ldm.config import AllowedTargets, load
from ldm.diffusion import cosine
from ldm.errors import UserError
from ldm.first_stage import IdentityFirstStage
from ldm.model import LatentDiffusion
from ldm.networks import DiT, UNet
from ldm.system.weights import save_weights
from ldm.training import DiffusionTraining


def model(conditioner: Conditioner | None = None, **net: Any) -> LatentDiffusion:
    """A tiny model, nothing in it at zero."""
    options: dict[str, Any] = {"heads": 1, "attention_at": [1], "context_channels": getattr(conditioner, "context_channels", None), **net}
    extra = getattr(conditioner, "concat_channels", 0)
    made = LatentDiffusion(IdentityFirstStage(1), UNet(1 + extra, 1, 32, [1], 1, **options), cosine(), conditioner, scale=0.5)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def begin(new: LatentDiffusion, old: LatentDiffusion, **more: Any) -> tuple[dict[str, Tensor], dict[str, Tensor], str]:
    before = {name: value.clone() for name, value in own_weights(old).items()}
    lines = begin_with(new, StartingWeights(before, "old.safetensors", strict=False, **more))
    return own_weights(new), before, "\n".join(lines)


@pytest.mark.parametrize("classes", [6, 3])
@pytest.mark.parametrize("null", [True, False])
def test_other_numbers_of_classes_keep_those_that_both_have(classes: int, null: bool) -> None:
    new = model(ClassEmbedding(classes, 8, null_class=null))
    initial = own_weights(new)["conditioner.embedding.weight"].clone()
    after, before, told = begin(new, model(ClassEmbedding(4, 8)))
    name, common = "conditioner.embedding.weight", min(classes, 4)
    assert torch.equal(after[name][:common], before[name][:common])
    assert torch.equal(after[name][common:classes], initial[common:classes])  # new classes begin as any table does
    assert not null or torch.equal(after[name][-1], before[name][-1])  # no class stays no class, wherever it lies
    assert all(torch.equal(after[other], before[other]) for other in before if other != name)
    assert f"in part: {name} ({common} of {classes} classes)" in told


def test_a_class_vector_keeps_its_classes() -> None:
    old, new = (model(LabelVector(n), context_channels=None, vector_channels=n) for n in (4, 6))
    after, before, _ = begin(new, old)
    assert torch.equal(after["network.vector.weight"][:, :4], before["network.vector.weight"])


@torch.no_grad()
def test_further_input_channels_change_nothing_at_first() -> None:
    old, new = model(), model(ConcatImage("low_res", 3), context_channels=None)
    after, before, told = begin(new, old)
    assert not after["network.conv_in.weight"][:, 1:].any() and "1 of 4 input channels, the others zero" in told
    z, t = torch.randn(2, 1, 8, 8), torch.tensor([3, 700])
    torch.testing.assert_close(new.network(torch.cat([z, torch.randn(2, 3, 8, 8)], dim=1), t), old.network(z, t))
    back, _, told = begin(model(), new)  # and a removed condition takes its channels with it
    assert torch.equal(back["network.conv_in.weight"], after["network.conv_in.weight"][:, :1]) and "1 input channels" in told


@torch.no_grad()
def test_a_dit_takes_the_channels_that_both_have() -> None:
    def dit(channels: int, classes: int) -> LatentDiffusion:
        conditioner = Joint([LabelVector(classes), *([ConcatImage("low_res", channels - 1)] if channels > 1 else [])])
        network = DiT(channels, 1, 2, width=16, depth=1, heads=2, size=8, vector_channels=classes)
        return LatentDiffusion(IdentityFirstStage(1), network, cosine(), conditioner)

    after, before, told = begin(dit(4, 6), dit(1, 4))
    assert torch.equal(after["network.patches.weight"][:, :1], before["network.patches.weight"]) and "1 of 4 input channels" in told
    assert not after["network.patches.weight"][:, 1:].any()
    assert torch.equal(after["network.vector.weight"][:, :4], before["network.vector.weight"]) and "4 of 6 classes" in told


def test_added_and_removed_conditions_are_listed() -> None:
    plain, conditioned = model(), model(ClassEmbedding(4, 8))
    after, before, told = begin(conditioned, plain)
    assert torch.equal(after["network.time.0.weight"], before["network.time.0.weight"])
    assert "as initialised, because they are missing: conditioner.embedding.weight, network." in told and "not used: network." in told
    after, before, told = begin(model(), conditioned)
    assert torch.equal(after["network.conv_out.weight"], before["network.conv_out.weight"])
    assert "not used: conditioner.embedding.weight" in told and float(after["scale"]) == 0.5


def test_classes_inside_several_conditions() -> None:
    old, new = (model(Joint([ClassEmbedding(n, 8), ConcatImage("low_res", 3)])) for n in (4, 5))
    after, before, told = begin(new, old)
    assert torch.equal(after["conditioner.parts.0.embedding.weight"][:4], before["conditioner.parts.0.embedding.weight"][:4])
    assert "in part: conditioner.parts.0.embedding.weight (4 of 5 classes)" in told


def test_a_condition_keeps_its_weights_wherever_it_stands_among_others() -> None:
    """A second condition makes the first one a part of several; without it, that is alone again; their order is a matter of taste."""
    alone = model(ClassEmbedding(4, 8))
    first, last = ([ClassEmbedding(4, 8), ConcatImage("low_res", 3)], [ConcatImage("low_res", 3), ClassEmbedding(5, 8)])
    for old, new in ((alone, model(Joint(last))), (model(Joint(first)), model(Joint(last))), (model(Joint(last)), alone)):
        name = next(name for name in own_weights(new) if name.endswith("embedding.weight"))
        after, before, told = begin(new, old)
        theirs = next(value for key, value in before.items() if key.endswith("embedding.weight"))
        assert torch.equal(after[name][:4], theirs[:4]) and torch.equal(after[name][-1], theirs[-1])
        assert name not in told.partition("as initialised")[2] and "not used" not in told


def test_one_scale_becomes_that_of_every_channel() -> None:
    old = LatentDiffusion(IdentityFirstStage(2), UNet(2, 2, 32, [1], 1, heads=1), cosine(), scale=0.25)
    new = LatentDiffusion(IdentityFirstStage(2), UNet(2, 2, 32, [1], 1, heads=1), cosine(), scale=[1.0, 2.0])
    after, _, told = begin(new, old)
    assert after["scale"].flatten().tolist() == [0.25, 0.25] and "in part: scale (one number for all channels)" in told


def test_strict_is_the_default_and_names_the_way_out() -> None:
    start = StartingWeights(own_weights(model(ClassEmbedding(4, 8))), "old.safetensors")
    with pytest.raises(
        UserError, match=r"old\.safetensors: .* conditioner\.embedding\.weight is \(5, 8\), expected \(7, 8\); strict: false"
    ):
        begin_with(model(ClassEmbedding(6, 8)), start)
    assert begin_with(model(ClassEmbedding(4, 8)), start) == []
    with pytest.raises(UserError, match="nothing in it matches"):
        begin_with(model(), StartingWeights({"encoder.conv_in.weight": torch.ones(1)}, "x", strict=False))


def config(folder: Path, classes: int) -> dict[str, Any]:
    node = load(["configs/demo/digits.yaml"]).data
    params = node["model"]["params"]
    params["model"]["params"] |= {
        "first_stage": {"target": "ldm.first_stage.IdentityFirstStage", "params": {"channels": 1}},
        "network": {
            "target": "ldm.networks.UNet",
            "params": {"in_channels": 1, "out_channels": 1, "width": 32, "width_mult": [1], "heads": 1, "context_channels": 8},
        },
        "conditioner": {"target": "ldm.conditioning.ClassEmbedding", "params": {"num_classes": classes, "width": 8}},
        "scale": 1.0,
    }
    return node


@pytest.mark.parametrize("strict", [True, False])
def test_the_check_lists_what_does_not_fit(tmp_path: Path, strict: bool) -> None:
    from ldm.check import check
    from ldm.config import Config, build

    node = config(tmp_path, 7)
    old = build(node["model"]["params"]["model"], AllowedTargets())
    save_weights(tmp_path / "old.safetensors", own_weights(old), {"ldm_checkpoint": 1, "step": 3, "config": node, "ema": {}})
    assert not starting_weights(str(tmp_path / "old.safetensors"), strict=False).strict
    new = config(tmp_path, 10)
    params = {"checkpoint": str(tmp_path / "old.safetensors")} | ({} if strict else {"strict": False})
    new["model"]["params"]["start"] = {"target": "ldm.checkpoint.load.starting_weights", "params": params}
    report = check(Config(new, new), AllowedTargets())
    if strict:
        assert report.exit_code == 2 and "strict: false in start.params" in report.text()
    else:
        assert report.exit_code == 0, report.text()
        assert "conditioner.embedding.weight (7 of 10 classes)" in report.text()
        training = build(new["model"], AllowedTargets())
        assert isinstance(training, DiffusionTraining)
        assert torch.equal(
            own_weights(training.model)["conditioner.embedding.weight"][:7], own_weights(old)["conditioner.embedding.weight"][:7]
        )
    assert yaml.safe_load(yaml.safe_dump(new)) == new


def test_what_does_not_fit_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, caplog) -> None:
    shutil.copytree(Path(__file__).parents[1] / "fixtures" / "runs", tmp_path / "runs", symlinks=True)
    monkeypatch.chdir(tmp_path / "runs")
    start = "model.params.start={target: ldm.checkpoint.load.starting_weights, params: {checkpoint: class, strict: false}}"
    words = ["-b", "class/config.yaml", start, "model.params.model.params.conditioner.params.num_classes=12", "trainer.params.steps=1"]
    with caplog.at_level("INFO"):
        assert main([*words, "--train"]) == 0
    assert caplog.text.count("in part: conditioner.embedding.weight (10 of 12 classes)") == 1
    assert main([*words, "--check"]) == 0
    assert capsys.readouterr().out.count("in part: conditioner.embedding.weight (10 of 12 classes)") == 1
