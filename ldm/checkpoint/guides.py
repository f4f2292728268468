"""Load models that guide another one: a classifier on noisy latents, or a worse model for autoguidance."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.checkpoint.fit import fitted
from ldm.checkpoint.load import LoadedModel, load_model
from ldm.checkpoint.read import read_source
from ldm.config import AllowedTargets, build
from ldm.diffusion.process import Process
from ldm.errors import UserError
from ldm.model import LatentDiffusion, latent_scale
from ldm.networks import NoisyClassifier
from ldm.system.weights import fingerprint

log = logging.getLogger(__name__)
SAME, CLOSE = 1e-4, 1e-2  # relative differences of the scale of latents: by rounding, and of `scale: std` in two runs


def load_classifier(
    path: str, guided: LoadedModel, allow_other_first_stage: bool = False, raw: bool = False, trust: AllowedTargets | None = None
) -> tuple[NoisyClassifier, dict[str, Any]]:
    """A classifier on noisy latents for classifier guidance of a model, and the config it was trained with.

    Args:
        path: run folder of its training, or its weights.
        guided: the model; the classifier must have been trained on the same latents.
        allow_other_first_stage: accept a classifier that was trained on the latents of another first stage.
        raw: use the weights as trained instead of their average.
        trust: allowed targets of the config inside.

    Raises:
        MissingFile: no such file.
        UserError: not a classifier, or one for other latents.
    """
    source, model = read_source(path, full=raw), guided.model
    if "classifier" not in source.params:
        raise UserError(f"{source.path}: contains {source.kind}, expected a classifier on noisy latents")
    trust, weights, params = (trust or AllowedTargets()).for_model(), source.weights.chosen(raw), source.params
    classifier = fitted(NoisyClassifier, params["classifier"], trust, weights, source.path, "model.params.classifier")
    hashes = model.first_stage.sha256, str(source.trained_with.get("sha256") or "")
    known = all(hashes)
    if known and hashes[0] != hashes[1] and not allow_other_first_stage:
        raise UserError(f"{source.path}: trained on another first stage's latents; --allow-other-first-stage accepts it")
    compare_channels(source.path, classifier.in_channels, model)
    scale, mean = latent_scale(params.get("scale", 1.0), params.get("mean"), model.first_stage.channels)
    compare_latents(source.path, scale, mean, model, known and hashes[0] == hashes[1])
    if "process" in params:
        compare_process(source.path, build(params["process"], trust, "model.params.process"), model)
    return classifier.to(model.device).requires_grad_(False).eval(), source.config


def load_worse(
    path: str, guided: LoadedModel, allow_other_first_stage: bool, trust: AllowedTargets, raw: bool = False, tokenizer: str | None = None
) -> LoadedModel:
    """A smaller or earlier model for autoguidance of another one.

    Args:
        path: a run folder, weights or a released checkpoint.
        guided: the model to guide, with the same latents, process and conditions.
        allow_other_first_stage: accept a model that was trained on the latents of another first stage.
        trust, raw, tokenizer: as in `load_model`.

    Raises:
        MissingFile, UserError: no such file, or a model with other latents, conditions or noise.
    """
    loaded, model = load_model(path, None, allow_other_first_stage, trust, None, raw, tokenizer), guided.model
    worse, file = loaded.model, loaded.path
    same = fingerprint(worse.first_stage.state_dict()) == fingerprint(model.first_stage.state_dict())
    if not same and not allow_other_first_stage:
        raise UserError(f"{file}: trained on another first stage's latents; --allow-other-first-stage accepts it")
    compare_channels(file, worse.first_stage.channels, model)
    compare_latents(file, worse.scale, worse.mean, model, same)
    compare_process(file, worse.process, model)
    reads = [", ".join(one.conditioner.reads) or "no condition" for one in (worse, model)]
    if set(worse.conditioner.reads) - set(model.conditioner.reads):
        raise UserError(f"{file}: it reads {reads[0]}, the model {reads[1]}")
    return loaded


def compare_channels(path: Path, channels: int, model: LatentDiffusion) -> None:
    """Raises UserError if a guide has another number of latent channels than the model."""
    if channels != model.first_stage.channels:
        raise UserError(f"{path}: its latents have {channels} channels, the model's {model.first_stage.channels}")


def compare_latents(path: Path, scale: Tensor, mean: Tensor | None, model: LatentDiffusion, same_stage: bool) -> None:
    """Compare the scale and mean of a guide's latents with the model's.

    They must be equal up to rounding. With the `same_stage`, a difference of 1 % is a warning: `scale: std` is measured on the first
    batch of a run.

    Raises:
        UserError: they differ.
    """
    for name, own, other in (("scale", model.scale, scale), ("mean", model.mean, mean)):
        here, there = (torch.zeros(()) if value is None else value.cpu() for value in (own, other))
        if torch.allclose(here, there, rtol=SAME, atol=1e-6):
            continue
        difference = f"{path}: its latents have {name} {shown(there)}, the model's {shown(here)}"
        if not (same_stage and torch.allclose(here, there, rtol=CLOSE, atol=1e-6)):
            raise UserError(difference)
        log.warning("warning: %s", difference)


def compare_process(path: Path, process: Process, model: LatentDiffusion) -> None:
    """Raises UserError if a guide was trained with another process than the model."""
    if not process.same_as(model.process):
        raise UserError(f"{path}: trained with another process than the model, so its noise levels differ")


def shown(values: Tensor) -> str:
    """Numbers for messages."""
    return ", ".join(f"{value:g}" for value in values.flatten().tolist())
