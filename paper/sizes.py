"""Parameters and operations of the models of the zoo at full size, built on the meta device."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ldm.check import Report, build_on_meta, count_parameters, without_checkpoints
from ldm.conditioning import ClassEmbedding, LayoutTransformer, TextTransformer
from ldm.config import AllowedTargets, Config, load, validate
from ldm.errors import UserError
from ldm.first_stage import VQAutoencoder
from ldm.first_stage.base import FirstStage
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
def on_meta(name: str) -> TrainingModule:
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
    parts = count_parameters(on_meta(row.config))
    if row.classifier:
        parts["classifier"] = count_parameters(on_meta(row.classifier))["classifier"]
    if "vgg16" in row.counts:
        from torchvision.models import vgg16

        with torch.device("meta"):
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
    module = on_meta(name)
    with torch.device("meta"), torch.no_grad():
        if isinstance(module, AutoencoderTraining):
            image = torch.empty(1, module.autoencoder.image_channels, size, size)
            stage = module.autoencoder
            encode, decode = _count(lambda: stage.encode(image)), _count(_decoding(stage, stage.latent_shape(size, size)))
            return Work(encode + decode, encode, decode)
        if isinstance(module, ClassifierTraining):
            z = torch.empty(1, module.classifier.in_channels, module.classifier.size, module.classifier.size)
            return Work(_count(lambda: module.classifier(z, torch.zeros(1, dtype=torch.long))))
        assert isinstance(module, DiffusionTraining)
        model = module.model
        image = torch.empty(1, model.first_stage.image_channels, size, size)
        c, h, w = model.first_stage.latent_shape(size, size)
        z = torch.empty(1, model.network.in_channels, h, w)
        context = _context(model.conditioner)
        network = _count(lambda: model.network(z, torch.zeros(1, dtype=torch.long), context, None))
        return Work(network, _count(lambda: model.first_stage.encode(image)), _count(_decoding(model.first_stage, (c, h, w))))


def _count(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def _decoding(stage: FirstStage, shape: tuple[int, int, int]) -> Callable[[], Any]:
    """Decoding of a latent; for VQ without the search for the nearest codes, which is less than a thousandth of it."""
    if isinstance(stage, VQAutoencoder):
        return lambda: stage.decode_codes(torch.zeros(1, *shape[1:], dtype=torch.long))
    return lambda: stage.decode(torch.empty(1, *shape))


def _context(conditioner: nn.Module) -> Tensor | None:
    """Empty tokens of the conditioner's shape."""
    if isinstance(conditioner, ClassEmbedding):
        return torch.empty(1, 1, conditioner.context_channels or 0)
    if isinstance(conditioner, LayoutTransformer):
        return torch.empty(1, conditioner.boxes.length, conditioner.context_channels or 0)
    if isinstance(conditioner, TextTransformer):
        return torch.empty(1, conditioner.length, conditioner.context_channels or 0)
    return None
