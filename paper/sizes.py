"""Parameters and operations of the models of the zoo at full size, built on the meta device."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ldm.check import Report, build_on_meta, count_parameters, without_checkpoints
from ldm.check.cost import evaluate, operations
from ldm.config import AllowedTargets, Config, load, validate
from ldm.errors import UserError
from ldm.first_stage import VQAutoencoder
from ldm.first_stage.base import FirstStage
from ldm.nn.meta import on_meta
from ldm.training import AutoencoderTraining, ClassifierTraining, DiffusionTraining
from ldm.training.module import TrainingModule
from paper.tables import Row

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def config_file(name: str) -> Path:
    """File of a config of the zoo.

    Raises:
        UserError: there is no such file; only a clone has the configs.
    """
    path = CONFIGS / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"{path}: no such config; the paper's tables need a clone of the repository")
    return path


@cache
def config_of(name: str, overrides: tuple[str, ...] = ()) -> Config:
    """A config of the zoo with `key.sub=value` overrides."""
    config = load([config_file(name)], overrides)
    if problems := validate(config, AllowedTargets()):
        raise UserError(f"configs/{name}.yaml: {problems[0]}")
    return config


@cache
def full_size(name: str) -> TrainingModule:
    """A model of the zoo at full size on the meta device.

    Raises:
        UserError: the config cannot be built.
    """
    config, report = config_of(name), Report()
    module = build_on_meta(without_checkpoints(config.data["model"], "model", report), config, AllowedTargets(), report)
    if not isinstance(module, TrainingModule):
        raise UserError(f"configs/{name}.yaml: {(report.problems or report.missing)[0]}")
    return module


def counts(row: Row) -> dict[str, int]:
    """Numbers of parameters of the parts that a row's printed number includes."""
    parts = count_parameters(full_size(row.config))
    if row.classifier:
        parts["classifier"] = count_parameters(full_size(row.classifier))["classifier"]
    if "vgg16" in row.counts:
        from torchvision.models import vgg16

        with on_meta():
            parts["vgg16"] = sum(p.numel() for p in vgg16(weights=None).features.parameters())  # without its classifier
    return {name: parts[name] for name in row.counts.split("+") if name}


@dataclass(frozen=True)
class Work:
    """FLOPs for one image, of matrix products and convolutions only; 2 per multiply-add.

    Attributes:
        network: one evaluation of the denoiser (or classifier, or autoencoder: encoder and decoder).
        encode, decode: first stage.
    """

    network: int
    encode: int = 0
    decode: int = 0


@cache
def work(name: str, size: int = 256) -> Work:
    """FLOPs of a config's model for an image of `size` x `size`."""
    module = full_size(name)
    stage = module.stage()
    with on_meta(), torch.no_grad():
        if isinstance(module, ClassifierTraining):
            z = torch.empty(1, module.classifier.in_channels, module.classifier.size, module.classifier.size)
            return Work(operations(lambda: module.classifier(z, torch.zeros(1))))
        image, shape = torch.empty(1, stage.image_channels, size, size), stage.latent_shape(size, size)
        encode, decode = operations(lambda: stage.encode(image)), operations(_decoding(stage, shape))
        if isinstance(module, AutoencoderTraining):
            return Work(encode + decode, encode, decode)
        assert isinstance(module, DiffusionTraining)
        return Work(operations(lambda: evaluate(module.model, *shape[1:])), encode, decode)


def _decoding(stage: FirstStage, shape: tuple[int, int, int]) -> Callable[[], Any]:
    """Decoding of a latent; for VQ without the search for the nearest codes, which is less than a thousandth of it."""
    if isinstance(stage, VQAutoencoder):
        return lambda: stage.decode_codes(torch.zeros(1, *shape[1:], dtype=torch.long))
    return lambda: stage.decode(torch.empty(1, *shape))
