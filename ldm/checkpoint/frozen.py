"""A trained first stage, frozen, and the comparison of its architecture with a config."""

from typing import Any

from ldm.checkpoint.first_stage import find_first_stage
from ldm.checkpoint.fit import fitted, load_strictly
from ldm.checkpoint.read import read_first_stage
from ldm.checkpoint.source import PRETRAINED, LoadedCheckpoint
from ldm.config import AllowedTargets, build
from ldm.errors import UserError
from ldm.first_stage.base import FirstStage
from ldm.nn.meta import on_meta
from ldm.system.weights import fingerprint

OF_TRAINING = ("dropout", "initial_log_variance", "legacy")  # arguments of first stages that only affect training


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
    model.checkpoint, model.latents = str(source.path), source.latents
    model.sha256 = fingerprint(weights)
    return model.requires_grad_(False).eval()


def first_stage_source(checkpoint: str, model: FirstStage | None = None) -> LoadedCheckpoint:
    """The checkpoint of a first stage as stored; its architecture is `model`, if the caller knows it.

    Raises:
        MissingFile: no such checkpoint.
        UserError: another kind of model.
    """
    source = read_first_stage(checkpoint, model)
    if model is not None and "model" in source.config:
        compare_architecture(model, source)
    return source


def outside_first_stage(source: LoadedCheckpoint, path: str | None, trust: AllowedTargets) -> LoadedCheckpoint | None:
    """The first stage of a latent diffusion model that is stored in another file; None if it is inside.

    Args:
        source: the model.
        path: path of a first stage to use instead of the recorded one.
        trust: allowed targets.

    Raises:
        MissingFile: it was not found.
        UserError: a path is given, but it is inside.
    """
    node = source.node["params"].get("first_stage")
    if not isinstance(node, dict) or node.get("target") != PRETRAINED:
        if path:
            raise UserError(f"--first-stage: {source.path} has its first stage inside")
        return None
    path = path or find_first_stage(source.path, source.trained_with, node, trust)
    architecture = (node.get("params") or {}).get("model")
    with on_meta():
        model = build(architecture, trust, "model.params.model.params.first_stage.params.model") if architecture else None
    return first_stage_source(path, model)


def compare_architecture(model: FirstStage, source: LoadedCheckpoint) -> None:
    """Compare a first stage described by a config with the config in its file, if there is one.

    Raises:
        UserError: names the first argument that differs.
    """
    node = source.node
    try:
        with on_meta():
            theirs = build(node, AllowedTargets().for_model(), "first_stage")
    except UserError:  # a class that is not allowed here, though the config may name it: the weights are compared anyway
        return
    if not isinstance(theirs, FirstStage):
        return
    if type(theirs) is not type(model):
        raise UserError(f"{source.path}: its first stage is a {type(theirs).__name__}, the config describes a {type(model).__name__}")
    here, found = _architecture(model), _architecture(theirs)
    for key in sorted(here.keys() | found.keys()):
        if here.get(key) != found.get(key):
            raise UserError(
                f"{source.path} does not fit the config: {key} is {found.get(key)!r} in the file, {here.get(key)!r} in the config; "
                "the first stage's model can be omitted from the config: the file contains it"
            )


def _architecture(stage: FirstStage) -> dict[str, Any]:
    """Arguments that determine the function of a trained first stage, normalised."""
    arguments = {key: list(v) if isinstance(v, list | tuple) else v for key, v in stage.settings.items() if key not in OF_TRAINING}
    if "features" in arguments:
        arguments["features"] = arguments["features"] or arguments.get("channels")
    if "attention_at" in arguments:
        arguments["attention_at"] = sorted(
            {factor for factor in arguments["attention_at"] if factor < 2 ** len(arguments.get("width_mult", ()))}
        )
    return arguments
