"""Read a batch of the config's data, and run one step of a narrow copy of its model on it."""

import math
from typing import Any

import torch
from torch import Tensor

from ldm.check.conditions import condition_problems, unknown_words
from ldm.check.fit import innermost, sample_problems
from ldm.check.report import Report, first_line
from ldm.check.shrink import shrink
from ldm.checkpoint.source import trained_size
from ldm.config import AllowedTargets, Config, build
from ldm.data.batch import Batch
from ldm.errors import MissingFile, UserError
from ldm.rng import StepRNG
from ldm.training import AutoencoderTraining, ClassifierTraining, DataModule, DiffusionTraining, TrainerSettings
from ldm.training.module import TrainingModule

PLACES = {  # parts of training modules by their path in the config
    "model.first_stage": "model.params.model.params.first_stage",
    "model.network": "model.params.model.params.network",
    "model.conditioner": "model.params.model.params.conditioner",
    "autoencoder.encoder": "model.params.autoencoder",
    "autoencoder.decoder": "model.params.autoencoder",
    "loss.pixel": "model.params.loss.params.pixel",
    "loss.discriminator": "model.params.loss.params.discriminator",
    "first_stage": "model.params.first_stage",
    "classifier": "model.params.classifier",
}
LARGEST = 256  # maximum side of a random image


def read_batch(data: Any, module: TrainingModule, config: Config, report: Report) -> Batch | None:
    """A batch for the narrow step: two real samples, or random ones if the data is missing."""
    if not isinstance(data, DataModule) or innermost(data.train) is None:
        report.batch = {"image": "random, because the data is missing"}
        return batch_without_data(module, config)
    try:
        batch, wrong = sample_problems(data, module)
    except MissingFile as error:
        report.missing.append(str(error))
        return batch_without_data(module, config)
    report.problems += wrong
    if batch is None:
        return None
    report.batch = {key: describe(value) for key, value in batch.items() if key != "skipped"}
    report.warnings += unknown_words(batch, module)
    return None if wrong else {key: value[:2] for key, value in batch.items()}


def describe(value: Any) -> str:
    """Type, shape and range of one entry of a batch."""
    if isinstance(value, Tensor):
        span = f" in [{value.min():.3g}, {value.max():.3g}]" if value.numel() else ""
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}{span}"
    if value and isinstance(value[0], Tensor):
        return f"{len(value)} x {describe(value[0])}"
    return repr(value[0])


def batch_without_data(module: TrainingModule, config: Config) -> Batch:
    """Two random samples of the size of the config's data."""
    height, width = trained_size(config.data) or (LARGEST, LARGEST)
    if not isinstance(module, ClassifierTraining):  # which is built for one size
        # The data is unknown, so a larger image would only take longer.
        most = LARGEST // 2 if isinstance(module, AutoencoderTraining) else LARGEST
        height, width = min(height, most), min(width, most)
    return example_batch(module, height, width)


def example_batch(module: TrainingModule, height: int, width: int, count: int = 2) -> Batch:
    """Random samples with everything that a module reads; images are noise, `(count, C, height, width)` in [-1, 1]."""
    stage = module.stage()
    h, w = (max(1, side // stage.factor) for side in (height, width))
    sizes = {"C": stage.image_channels, "H": height, "W": width, "h": h, "w": w}
    batch: Batch = {name: key.placeholder(count, sizes) for name, key in module.keys().items()}
    batch["image"] = torch.rand(count, stage.image_channels, height, width) * 2 - 1
    return batch | {"id": [f"made-up-{i}" for i in range(count)]}


def run_narrow_step(node: Any, batch: Batch, settings: TrainerSettings | None, trust: AllowedTargets, report: Report) -> None:
    """One step of the config's training with narrow networks on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(shrink(node, trust), trust, "model")
        module.manual_backward = lambda loss: loss.backward()
        if isinstance(module, DiffusionTraining) and module.model.scale_by_std:
            module.model.set_scale(torch.tensor([2.0, 0.0, 1.0])[:, None].expand(-1, module.model.first_stage.channels))
            module.model.scale_by_std = False
        if isinstance(module, DiffusionTraining) and (wrong := condition_problems(module, batch)):
            report.problems += wrong
            return
        inside: list[str] = []
        for name, part in module.named_modules():
            if name in PLACES:
                part.register_forward_pre_hook(lambda *_, place=PLACES[name]: inside.append(place))
        try:
            logs = module.update(batch, StepRNG(0, 0, batch["id"]))
        except Exception as error:  # the same error would occur in training
            place = inside[-1] if inside else "model"
            report.problems.append(f"{place}: one step fails on a batch of the data: {type(error).__name__}: {first_line(error)}")
            return
        try:
            if settings is None:
                module.try_optimizers()
            else:
                module.try_optimizers(settings.steps, settings.device_type())
        except UserError as error:
            report.problems.append(str(error))
            return
    without = [name for name, p in module.averaged().items() if p.requires_grad and p.grad is None]
    if without:
        report.warnings.append(f"model: no gradient reaches {len(without)} parameters, for example {without[0]}")
    report.step = {name: float(value) for name, value in logs.items() if name.startswith("loss")}
    if not all(math.isfinite(value) for value in report.step.values()):
        report.problems.append(f"model: one step on a batch of the data gives a loss that is not finite: {report.step}")
