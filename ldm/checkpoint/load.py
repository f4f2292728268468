"""Load models for sampling, and for the config of a training."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm.checkpoint.fit import fitted
from ldm.checkpoint.frozen import first_stage_source, frozen, outside_first_stage
from ldm.checkpoint.read import read_source
from ldm.checkpoint.source import PRETRAINED, nodes_of, set_text_source
from ldm.checkpoint.start import StartingWeights
from ldm.config import AllowedTargets
from ldm.errors import MissingFile, UserError
from ldm.first_stage.base import FirstStage
from ldm.model import LatentDiffusion
from ldm.system.weights import fingerprint


def pretrained(checkpoint: str | None = None, model: FirstStage | None = None, strict: bool = True) -> FirstStage:
    """A trained first stage, frozen, for use in a stage-two config. As `autoencoder` of a stage-one config it is trained further.

    Args:
        checkpoint: a run folder of stage one, a weights file from one, a CompVis checkpoint, a diffusers folder or file, or a model that
            contains a first stage.
        model: the architecture, if the config gives it (usually by `from:`); else it is built from the config inside the checkpoint.
        strict: false allows a checkpoint of another architecture than `model`, which then only stands for it while there is no checkpoint.

    Raises:
        MissingFile: no such checkpoint.
        UserError: the weights do not match the architecture.
    """
    if not checkpoint:
        raise MissingFile("the first stage's checkpoint is not set: give a run folder of stage one or its weights file")
    model = model if strict else None
    return frozen(first_stage_source(checkpoint, model), AllowedTargets().for_model(), model)


def starting_weights(checkpoint: str | None = None, strict: bool = True, first_stage: bool = False) -> StartingWeights:
    """Initial weights for fine-tuning a stage-two model, without those of its first stage, or for a first stage.

    Args:
        checkpoint: a run folder of stage two, a weights file from one, or a CompVis checkpoint with its YAML beside it.
        strict: false loads what matches and lists the rest: different numbers of classes, added or removed conditions, more channels.
        first_stage: the weights are those of a first stage.

    Raises:
        MissingFile: no such checkpoint.
    """
    if not checkpoint:
        raise MissingFile("the weights to fine-tune are not set: give a run folder or its weights file")
    if first_stage:
        stage = first_stage_source(checkpoint)
        return StartingWeights(stage.weights.chosen(), str(stage.path), strict)
    source = read_source(checkpoint)
    weights = source.weights.chosen()
    own = {name: value for name, value in weights.items() if name.startswith(("network.", "conditioner.")) or name in ("scale", "mean")}
    null_class = all(node.get("null_class", True) for node in nodes_of((source.node.get("params") or {}).get("conditioner")))
    return StartingWeights(own, str(source.path), strict, null_class)


@dataclass
class LoadedModel:
    """A model for sampling.

    Attributes:
        model: in eval mode.
        config: the resolved config it was trained with.
        path: path of the weights.
        sha256: hash of the weights.
        step: training step.
    """

    model: LatentDiffusion
    config: dict[str, Any]
    path: Path
    sha256: str
    step: int


def load_model(
    path: str,
    first_stage: str | None = None,
    allow_other_first_stage: bool = False,
    trust: AllowedTargets | None = None,
    config: str | None = None,
    raw: bool = False,
    tokenizer: str | None = None,
) -> LoadedModel:
    """A latent diffusion model from a run folder, weights of ours, a CompVis checkpoint or a diffusers folder.

    Args:
        path: path of the model.
        first_stage: use this first stage instead of the recorded one.
        allow_other_first_stage: accept a first stage whose hash differs from the one in training.
        trust: allowed targets of the config inside.
        config: YAML of a CompVis checkpoint.
        raw: use the weights as trained instead of their average.
        tokenizer: folder of the text model's tokenizer, instead of the one in its config.

    Raises:
        MissingFile, UserError: with the file and what was expected.
    """
    source = read_source(path, config, full=raw, tokenizer=tokenizer)
    file = source.path
    if not source.stage_two:
        raise UserError(f"{file}: contains {source.kind}, expected the weights of a latent diffusion model (stage two)")
    trust = (trust or AllowedTargets()).for_model(PRETRAINED)
    node = copy.deepcopy(source.node)
    if tokenizer is not None:
        set_text_source(node["params"].get("conditioner"), tokenizer, file)
    inner = outside_first_stage(source, first_stage, trust)
    if inner is not None:
        architecture = (node["params"]["first_stage"].get("params") or {}).get("model")
        node["params"]["first_stage"] = frozen(inner, trust, node=architecture)
    weights = source.weights.chosen(raw)
    model = fitted(LatentDiffusion, node, trust, weights, file, "model.params.model", ignore="first_stage." if inner is not None else "")
    found, expected = model.first_stage.sha256, str(source.trained_with.get("sha256") or "")
    if expected and found != expected and not allow_other_first_stage:
        raise UserError(
            f"{model.first_stage.checkpoint}: this is not the first stage that {file} was trained with (SHA-256 {found[:12]}..., "
            f"expected {expected[:12]}...); give the right one with --first-stage, or allow it with --allow-other-first-stage"
        )
    return LoadedModel(model.eval(), source.config, file, fingerprint(weights), source.step)
