"""Every precision that is offered trains, and says what it needs; the others are refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ldm import precision
from ldm.cli.main import main
from ldm.data.sources.digits import Digits
from ldm.diffusion import cosine
from ldm.errors import UserError
from ldm.first_stage import AutoencoderLoss, IdentityFirstStage, KLAutoencoder
from ldm.model import LatentDiffusion
from ldm.networks import NoisyClassifier, PatchDiscriminator, UNet
from ldm.sampling.generate import SamplerSettings
from ldm.system.run_folder import newest_checkpoint
from ldm.system.weights import read_checkpoint
from ldm.training import AutoencoderTraining, ClassifierTraining, DataModule, DiffusionTraining, Muon, TrainerSettings
from ldm.training.module import TrainingModule
from ldm.training.run import fit

TINY = [
    "model.params.autoencoder.params.width=32",
    "data.params.batch_size=4",
    "trainer.params.log_every=1",
    "trainer.params.validate_every=0",
    "trainer.params.images_every=0",
    "trainer.params.accelerator=cpu",
    "model.params.scheduler=null",
]
FIRST = ["-b", "configs/demo/digits-first-stage.yaml", "-t", "-n", "first", *TINY]


def test_what_auto_decided_is_saved_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Begun where bf16 is multiplied in hardware, then resumed there, and then where it is not."""
    caplog.set_level("INFO")
    for steps, native, kept in ((1, True, "bf16-mixed"), (2, True, "bf16-mixed"), (3, False, "32-true")):
        monkeypatch.setattr(precision, "multiplies_bf16", lambda device, native=native: native)
        caplog.clear()
        words = [*FIRST, "-l", str(tmp_path)] if steps == 1 else ["--resume", str(next(tmp_path.iterdir()))]
        assert main([*words, f"trainer.params.steps={steps}"]) == 0
        (run,) = tmp_path.iterdir()
        assert read_checkpoint(newest_checkpoint(run))["auto_precision"] == kept
        assert f"{kept} on cpu" in caplog.text
        assert ("does not multiply in hardware" in caplog.text) == (steps == 3)
    incidents = [json.loads(line) for line in (run / "incidents.jsonl").read_text().splitlines()]
    assert ["continues in 32-true" in one["what"] for one in incidents if one["kind"] == "resume"] == [False, True]


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for _, p in parameters], lr=0.05, momentum=0.9)


def muon(parameters: Any) -> torch.optim.Optimizer:
    return Muon(parameters)


def first_stage(optimizer: Any = sgd) -> TrainingModule:
    net = KLAutoencoder(2, 32, [1, 1], 1, image_channels=1, middle_attention=False)
    return AutoencoderTraining(net, AutoencoderLoss(discriminator=PatchDiscriminator(1, 8, 2), reduction="mean"), optimizer, ema_decay=0.9)


def diffusion(optimizer: Any = sgd) -> TrainingModule:
    model = LatentDiffusion(IdentityFirstStage(1), UNet(1, 1, 32, [1], 1, heads=1), cosine(50), scale="std")
    return DiffusionTraining(model, optimizer, ema_decay=0.9, preview=SamplerSettings(steps=2))


def classifier(optimizer: Any = sgd) -> TrainingModule:
    return ClassifierTraining(IdentityFirstStage(1), NoisyClassifier(1, 10, 16, 32, [1], 1, [], head_channels=16), cosine(50), optimizer)


METADATA: dict[str, Any] = {"config": {}, "source": {}, "first_stage": None}
MODULES = [first_stage, diffusion, classifier]


def train(make: Any, folder: Path, steps: int, settings: dict[str, Any] | None = None, **more: Any) -> TrainingModule:
    """A few steps on digits, seen and validated at the last."""
    torch.manual_seed(0)
    module = make(**more)
    looks = {"log_every": 1, "validate_every": steps, "images_every": steps, "validation_batches": 1}
    chosen = {"accelerator": "cpu", "devices": 1, "precision": "32-true", **looks, **(settings or {})}
    fit(module, DataModule(4, Digits("train", 16)), TrainerSettings(steps, **chosen), folder, METADATA, seed=1)
    return module


@pytest.mark.parametrize("make", MODULES)
@pytest.mark.parametrize("name", [name for name in precision.TRAINING if name != "16-mixed"])
def test_what_is_offered_trains(make: Any, name: str, tmp_path: Path) -> None:
    before = {key: p.detach().clone() for key, p in train(make, tmp_path / "none", 1, optimizer=still).averaged().items()}
    module = train(make, tmp_path, 4, {"precision": name}, optimizer=muon)  # what begins with zeros takes turns in moving
    moved = [not torch.equal(p, before[key]) for key, p in module.averaged().items()]
    assert module.step == 4 and sum(moved) > 0.8 * len(moved)
    assert all(p.dtype == torch.float32 for p in module.training_state().values() if p.is_floating_point())
    checkpoint = read_checkpoint(newest_checkpoint(tmp_path))
    assert all(value.dtype == torch.float32 for value in checkpoint["model"].values() if value.is_floating_point())
    assert torch.get_default_dtype() == torch.float32
    if isinstance(module, DiffusionTraining):
        tables = module.model.process._alpha, module.model.process._sigma
        torch.testing.assert_close(tables[0] ** 2 + tables[1] ** 2, torch.ones(51), atol=1e-6, rtol=0)


def still(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for _, p in parameters], lr=0.0)


@pytest.mark.parametrize("name", ["bf16-true", "16-true", "64-true", "16", "fp16"])
def test_what_is_not_offered_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"precision '{name}' is (not supported: .*; use .*-(mixed|true)|unknown; there are auto)"):
        TrainerSettings(1, precision=name)


def test_sixteen_bits_need_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would train in bf16 instead."""
    with pytest.raises(ValueError, match="'16-mixed' needs CUDA, this run is on cpu; use auto, bf16-mixed or 32-true"):
        TrainerSettings(1, precision="16-mixed", accelerator="cpu")
    settings = TrainerSettings(1, precision="16-mixed")  # may be checked on another machine than it runs on
    monkeypatch.setattr(TrainerSettings, "device_type", lambda self: "cpu")
    with pytest.raises(UserError, match="trainer.params: precision '16-mixed' needs CUDA"):
        settings.require_device()


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp_native"])
def test_sharded_training_is_refused_by_name(strategy: str) -> None:
    with pytest.raises(ValueError, match=f"strategy '{strategy}' is not supported: .*; use ddp"):
        TrainerSettings(1, strategy=strategy)


def scaled(monkeypatch: pytest.MonkeyPatch, scale: float = 1024.0) -> None:
    """As if the precision needed the loss scaled."""
    monkeypatch.setattr(precision, "gradient_scaler", lambda name, device: torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2))


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("make", MODULES)
def test_a_scaled_loss_moves_weights_as_float32_does(make: Any, clip: float | None, tmp_path: Path, monkeypatch) -> None:
    """Powers of two do not round: SGD's steps, clipped ones too, come out the same to the last bit."""
    expected = train(make, tmp_path / "a", 3, {"gradient_clip": clip})
    scaled(monkeypatch)
    found = train(make, tmp_path / "b", 3, {"gradient_clip": clip})
    assert found.scaler is not None and found.scaler.get_scale() == 2048.0  # it has grown once
    for name, value in expected.training_state().items():
        assert torch.equal(found.training_state()[name], value), name
    if clip is not None:
        assert torch.equal(found.metrics["gradient_norm"], expected.metrics["gradient_norm"])


class Overflowing(nn.Module):
    """Passes its input on; the gradient through it is infinite in one step."""

    def __init__(self, inner: nn.Module, training: Any, at: int) -> None:
        super().__init__()
        self.inner, self.seen, self.at = inner, [training], at

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        out: torch.Tensor = self.inner(*args, **kwargs)
        if out.requires_grad and self.seen[0].step == self.at:
            out.register_hook(lambda gradient: gradient * float("inf"))
        return out


def test_an_overflow_moves_nothing_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At step 1 of 3: weights, momentum and averages stay, the step and the rate go on, the scale is halved."""
    scaled(monkeypatch)
    seen: list[dict[str, Any]] = []

    class Spied(DiffusionTraining):
        def _take_step(self) -> None:
            super()._take_step()
            assert self.ema is not None and self.scaler is not None
            weights = {name: p.detach().clone() for name, p in self.averaged().items()}
            average = {name: value.clone() for name, value in self.ema.shadow.items()}
            seen.append({"weights": weights, "average": average, "updates": self.ema.updates, "rate": self.rates()["lr"]})
            seen[-1] |= {"scale": self.scaler.get_scale(), "metrics": dict(self.metrics), "step": self.step}

    def make() -> TrainingModule:
        model = LatentDiffusion(IdentityFirstStage(1), UNet(1, 1, 32, [1], 1, heads=1), cosine(50), scale=1.0)
        module = Spied(model, sgd, ema_decay=0.9, scheduler=lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)))
        monkeypatch.setattr(model, "output", Overflowing(Output(model), module, 1).forward)
        return module

    class Output(nn.Module):
        def __init__(self, model: LatentDiffusion) -> None:
            super().__init__()
            self.plain = model.output

        def forward(self, *args: Any) -> torch.Tensor:
            return self.plain(*args)

    module = train(make, tmp_path, 3, {"gradient_clip": 1.0, "validate_every": 0, "images_every": 0})
    first, second, third = seen
    for key in ("weights", "average"):
        assert all(torch.equal(value, second[key][name]) for name, value in first[key].items())
        assert not all(torch.equal(value, third[key][name]) for name, value in first[key].items())
    assert [one["updates"] for one in seen] == [1, 1, 2] and [one["step"] for one in seen] == [0, 1, 2] and module.step == 3
    assert [one["rate"] for one in seen] == pytest.approx([0.05 / 2, 0.05 / 3, 0.05 / 4])
    assert [one["scale"] for one in seen] == [1024.0, 512.0, 512.0]
    assert [float(one["metrics"]["overflows"]) for one in seen] == [0.0, 1.0, 0.0] and "loss" not in second["metrics"]


def test_a_scale_that_falls_and_falls_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaled(monkeypatch, 2.0**-9)

    def make() -> TrainingModule:
        module = diffusion()
        for p in module.averaged().values():
            p.register_hook(lambda gradient: gradient * float("inf"))
        return module

    with pytest.raises(UserError, match="gradients overflow at every scale; resume with precision bf16-mixed or 32-true"):
        train(make, tmp_path, 3)


def test_the_scale_is_saved_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaled(monkeypatch)
    train(diffusion, tmp_path, 3)
    state = read_checkpoint(newest_checkpoint(tmp_path))
    assert state["scaler"]["scale"] == 2048.0 and state["scaler"]["_growth_tracker"] == 1
    module = diffusion()
    settings = TrainerSettings(4, accelerator="cpu", devices=1, precision="32-true", validate_every=0, images_every=0)
    fit(module, DataModule(4, Digits("train", 16)), settings, tmp_path, METADATA, seed=1, state=state)
    assert module.scaler is not None and module.scaler.get_scale() == 4096.0
