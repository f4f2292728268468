"""Load a model from a path."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ldm.checkpoint.first_stage import find_first_stage
from ldm.checkpoint.source import PRETRAINED, LoadedCheckpoint, nodes_of, read_source, set_text_source, stage_of
from ldm.checkpoint.start import StartingWeights
from ldm.config import AllowedTargets, build
from ldm.errors import MissingFile, UserError
from ldm.first_stage.base import FirstStage
from ldm.model import LatentDiffusion, latent_scale
from ldm.networks import NoisyClassifier
from ldm.nn.weights import mismatch
from ldm.system.files import fingerprint

T = TypeVar("T")
OF_TRAINING = ("dropout", "initial_log_variance", "legacy")  # arguments of first stages that only affect training


def pretrained(checkpoint: str | None = None, model: FirstStage | None = None) -> FirstStage:
    """A trained first stage, frozen, for use in a stage-two config.

    Args:
        checkpoint: a run folder of stage one, a weights file from one, a CompVis checkpoint or a diffusers folder.
        model: the architecture, if the config gives it (usually by `from:`); else it is built from the config inside the checkpoint.

    Raises:
        MissingFile: no such checkpoint.
        UserError: the weights do not match the architecture.
    """
    if not checkpoint:
        raise MissingFile("the first stage's checkpoint is not set: give a run folder of stage one or its weights file")
    return frozen(first_stage_source(checkpoint, model), AllowedTargets().for_model(), model)


def frozen(
    source: LoadedCheckpoint, trust: AllowedTargets, model: FirstStage | None = None, node: dict[str, Any] | None = None
) -> FirstStage:
    """A frozen first stage with its weights.

    Args:
        source: the checkpoint as stored.
        trust: allowed targets.
        model: the architecture, if it is already built.
        node: config node of the architecture, if it is not; the source's if None.
    """
    weights = source.weights.chosen()
    if model is None:
        model = fitted(FirstStage, node or source.node, trust, weights, source.path, "model.params.autoencoder")
    else:
        load_strictly(model, weights, source.path)
    model.checkpoint = str(source.path)
    model.sha256 = fingerprint(weights)
    return model.requires_grad_(False).eval()


def first_stage_source(checkpoint: str, model: FirstStage | None = None) -> LoadedCheckpoint:
    """The checkpoint of a first stage as stored; its architecture is `model`, if the caller knows it.

    Raises:
        MissingFile: no such checkpoint.
        UserError: another kind of model.
    """
    source = stage_of(read_source(checkpoint, stage=model))
    if model is not None and source.config:
        compare_architecture(model, source)
    return source


def compare_architecture(model: FirstStage, source: LoadedCheckpoint) -> None:
    """Compare a first stage described by a config with the config in its file, if there is one.

    Raises:
        UserError: names the first argument that differs.
    """
    node = source.node
    try:
        with torch.device("meta"):
            theirs = build(node, AllowedTargets().for_model(), "first_stage")
    except UserError:  # a class that is not allowed here, though the config may name it: the weights are compared anyway
        return
    if not isinstance(theirs, FirstStage):
        return
    if type(theirs) is not type(model):
        raise UserError(f"{source.path}: its first stage is a {type(theirs).__name__}, the config describes a {type(model).__name__}")
    said, found = _architecture(model), _architecture(theirs)
    for key in sorted(said.keys() | found.keys()):
        if said.get(key) != found.get(key):
            raise UserError(
                f"{source.path} does not fit the config: {key} is {found.get(key)!r} in the file, {said.get(key)!r} in the config; "
                "the first stage's model can be omitted from the config: the file contains it"
            )


def _architecture(stage: FirstStage) -> dict[str, Any]:
    """Arguments that determine the function of a trained first stage, normalised."""
    made = {key: list(v) if isinstance(v, list | tuple) else v for key, v in stage.settings.items() if key not in OF_TRAINING}
    if "features" in made:
        made["features"] = made["features"] or made.get("channels")
    if "attention_at" in made:
        made["attention_at"] = sorted({factor for factor in made["attention_at"] if factor < 2 ** len(made.get("width_mult", ()))})
    return made


def starting_weights(checkpoint: str | None = None, strict: bool = True) -> StartingWeights:
    """Initial weights for fine-tuning a stage-two model, without those of its first stage.

    Args:
        checkpoint: a run folder of stage two, a weights file from one, or a CompVis checkpoint with its YAML beside it.
        strict: false loads what matches and lists the rest: different numbers of classes, added or removed conditions, more channels.

    Raises:
        MissingFile: no such checkpoint.
    """
    if not checkpoint:
        raise MissingFile("the weights to fine-tune are not set: give a run folder of stage two or its weights file")
    source = read_source(checkpoint)
    weights = source.weights.chosen()
    own = {name: value for name, value in weights.items() if name.startswith(("network.", "conditioner.")) or name in ("scale", "mean")}
    null_class = all(node.get("null_class", True) for node in nodes_of((source.node.get("params") or {}).get("conditioner")))
    return StartingWeights(own, str(source.path), strict, null_class)


def expect(kind: type[T], built: Any, path: Path, where: str) -> T:
    """Check the type of what a checkpoint's config built.

    Raises:
        UserError: it is not a `kind`.
    """
    if not isinstance(built, kind):
        raise UserError(f"{path}: {where} of the config inside builds a {type(built).__name__}, expected a {kind.__name__}")
    return built


def fitted(
    kind: type[T], node: dict[str, Any], trust: AllowedTargets, weights: Mapping[str, Tensor], path: Path, where: str, ignore: str = ""
) -> T:
    """Build a module and load its weights. They are compared before memory is allocated: a config in a file may contain any size.

    Args:
        kind: expected type.
        node, trust, where: as in `build`.
        weights: all weights; every name and shape must match, except names below `ignore`.
        path: path of the weights, for messages.
        ignore: see `require_fit`.

    Raises:
        UserError: names the first differences.
    """
    with torch.device("meta"):
        try:
            shape = build(node, trust, where)
        except UserError as error:
            if not isinstance(error.__cause__, RuntimeError):  # such as NotImplementedError, from a constructor that reads tensor values
                raise
            shape = None
    if shape is not None:
        require_fit(expect(kind, shape, path, where), weights, path, ignore)
    built = expect(kind, build(node, trust, where), path, where)
    load_strictly(built, weights, path, ignore)
    return built


def require_fit(module: Any, weights: Mapping[str, Tensor], path: Path, ignore: str = "") -> None:
    """Compare all names and shapes of weights with a module's; names below `ignore` may be missing.

    Raises:
        UserError: names the first differences.
    """
    own = {name: value for name, value in module.state_dict().items() if not ignore or not name.startswith(ignore)}
    if wrong := mismatch(weights, own):
        raise UserError(f"{path} does not fit the config: {wrong}")


def load_strictly(module: Any, weights: Mapping[str, Tensor], path: Path, ignore: str = "") -> None:
    """Load weights that match, see `require_fit`."""
    require_fit(module, weights, path, ignore)
    module.load_state_dict(weights, strict=not ignore)


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
        raise UserError(f"{file}: holds {what_else(source)}, expected the weights of a latent diffusion model (stage two)")
    trust = (trust or AllowedTargets()).for_model(PRETRAINED)
    node = copy.deepcopy(source.node)
    if tokenizer is not None:
        set_text_source(node["params"].get("conditioner"), tokenizer, file)
    part = node["params"].get("first_stage")
    outside = isinstance(part, dict) and part.get("target") == PRETRAINED and isinstance(part.get("params"), dict)
    if outside:
        lies, inner = first_stage or find_first_stage(file, source.trained_with, part, trust), part["params"].get("model")
        with torch.device("meta"):
            architecture = build(inner, trust, "model.params.model.params.first_stage.params.model") if inner else None
        node["params"]["first_stage"] = frozen(first_stage_source(lies, architecture), trust, node=inner)
    elif first_stage:
        raise UserError(f"--first-stage: {file} has its first stage inside")
    weights = source.weights.chosen(raw)
    model = fitted(LatentDiffusion, node, trust, weights, file, "model.params.model", ignore="first_stage." if outside else "")
    found, expected = model.first_stage.sha256, str(source.trained_with.get("sha256") or "")
    if expected and found != expected and not allow_other_first_stage:
        raise UserError(
            f"{model.first_stage.checkpoint}: this is not the first stage that {file} was trained with (SHA-256 {found[:12]}..., "
            f"expected {expected[:12]}...); give the right one with --first-stage, or allow it with --allow-other-first-stage"
        )
    return LoadedModel(model.eval(), source.config, file, fingerprint(weights), source.step)


def load_classifier(path: str, guided: LoadedModel, allow_other_first_stage: bool = False, raw: bool = False) -> NoisyClassifier:
    """A classifier on noisy latents for classifier guidance of a model.

    Args:
        path: run folder of its training, or its weights.
        guided: the model; the classifier must have been trained on the same latents.
        allow_other_first_stage: accept a classifier that was trained on the latents of another first stage.
        raw: use the weights as trained instead of their average.

    Raises:
        MissingFile: no such file.
        UserError: not a classifier, or one for other latents.
    """
    source = read_source(path, full=raw)
    params = (source.config.get("model") or {}).get("params") or {}
    if "classifier" not in params:
        kind = "a latent diffusion model" if source.stage_two else what_else(source)
        raise UserError(f"{source.path}: holds {kind}, expected a classifier on noisy latents")
    trust, weights = AllowedTargets().for_model(), source.weights.chosen(raw)
    classifier = fitted(NoisyClassifier, params["classifier"], trust, weights, source.path, "model.params.classifier")
    model = guided.model
    ours, theirs = model.first_stage.sha256, str(source.trained_with.get("sha256") or "")
    if ours and theirs and ours != theirs and not allow_other_first_stage:
        raise UserError(f"{source.path}: trained on another first stage's latents; --allow-other-first-stage accepts it")
    if classifier.in_channels != model.first_stage.channels:
        raise UserError(f"{source.path}: expects {classifier.in_channels} channels; the model's latents have {model.first_stage.channels}")
    own = latent_scale(params.get("scale", 1.0), params.get("mean"), model.first_stage.channels)
    compare_latents(source.path, own, model)
    if "process" in params and not build(params["process"], trust, "model.params.process").same_as(model.process):
        raise UserError(f"{source.path}: trained with another process than the model, so its noise levels differ")
    return classifier.to(model.device).requires_grad_(False).eval()  # type: ignore[no-any-return]


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
    worse, model = load_model(path, None, allow_other_first_stage, trust, None, raw, tokenizer), guided.model
    stages = [fingerprint(one.first_stage.state_dict()) for one in (worse.model, model)]
    if stages[0] != stages[1] and not allow_other_first_stage:
        raise UserError(f"{worse.path}: trained on another first stage's latents; --allow-other-first-stage accepts it")
    if worse.model.first_stage.channels != model.first_stage.channels:
        raise UserError(
            f"{worse.path}: its latents have {worse.model.first_stage.channels} channels, the model's {model.first_stage.channels}"
        )
    compare_latents(worse.path, (worse.model.scale, worse.model.mean), model)
    if not worse.model.process.same_as(model.process):
        raise UserError(f"{worse.path}: trained with another process than the model, so its noise levels differ")
    reads = [", ".join(one.conditioner.reads) or "no condition" for one in (worse.model, model)]
    if set(worse.model.conditioner.reads) - set(model.conditioner.reads):
        raise UserError(f"{worse.path}: it reads {reads[0]}, the model {reads[1]}")
    return worse


def compare_latents(path: Path, theirs: tuple[Tensor, Tensor | None], model: LatentDiffusion) -> None:
    """Check that a guiding model has the same scale and mean of latents, up to rounding.

    Raises:
        UserError: they differ.
    """
    for name, own, other in (("scale", model.scale, theirs[0]), ("mean", model.mean, theirs[1])):
        here, there = (torch.zeros(()) if value is None else value.cpu() for value in (own, other))
        if not torch.allclose(here, there, rtol=1e-2, atol=1e-6):
            raise UserError(f"{path}: its latents have {name} {shown(there)}, the model's {shown(here)}")


def shown(values: Tensor) -> str:
    """Numbers for messages."""
    return ", ".join(f"{value:g}" for value in values.flatten().tolist())


def what_else(source: LoadedCheckpoint) -> str:
    """Kind of a checkpoint that is not a latent diffusion model, for messages."""
    params = (source.config.get("model") or {}).get("params") or {}
    return "a first stage" if "autoencoder" in params else "a classifier" if "classifier" in params else "something unknown"


def pick_device(name: str = "auto") -> torch.device:
    """The device to sample on.

    Raises:
        UserError: it is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps", "xpu"):
            raise RuntimeError("available are cpu, cuda and mps")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def pick_devices(names: str = "auto") -> list[torch.device]:
    """Devices to sample on: a comma-separated list; "cuda", and "auto" if there are GPUs, means all of them.

    Raises:
        UserError: it is not available.
    """
    devices = [pick_device(name.strip()) for name in names.split(",")]
    if names in ("auto", "cuda") and devices[0].type == "cuda":
        return [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    return devices
