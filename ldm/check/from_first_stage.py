"""What the file of a first stage says, written into a config, which then describes the run without it."""

import copy
import logging
from typing import Any

from ldm.check.model import START, compare_shapes
from ldm.checkpoint.frozen import first_stage_source
from ldm.checkpoint.source import PRETRAINED, LoadedCheckpoint
from ldm.config import AllowedTargets, Config, build
from ldm.errors import MissingFile, UserError
from ldm.nn.meta import on_meta

log = logging.getLogger(__name__)
AUTOENCODER = "model.params.autoencoder.params.checkpoint"
FROM_FILE = "first_stage"  # value of `scale`


def from_first_stage(config: Config, trust: AllowedTargets) -> None:
    """Change a valid config, and its source, in place.

    Stage one: `autoencoder: pretrained` becomes the architecture of the file, whose weights are the start, with `latents:` as stated.
    Stage two: an architecture that the file need not have (`strict: false`) is left out, and `scale: first_stage` becomes numbers.

    Raises:
        MissingFile, UserError: of the file of a first stage that is trained further; that of stage two is reported when the model is built.
    """
    params = _params(config.data.get("model"))
    if _is_pretrained(params.get("autoencoder")):
        _train_further(config, _params(params["autoencoder"]), trust)
    elif _is_pretrained(_params(params.get("model")).get("first_stage")):
        _take_over(config, _params(params["model"]))


def _train_further(config: Config, named: dict[str, Any], trust: AllowedTargets) -> None:
    checkpoint = named.get("checkpoint")
    if not checkpoint:
        raise MissingFile(
            f"{AUTOENCODER}: the first stage to train further is not set: give a run folder, a weights file or a diffusers folder"
        )
    try:
        source = first_stage_source(str(checkpoint))
        with on_meta():  # only a model may come from a file
            build(source.node, trust.for_model(), str(checkpoint))
        if named.get("model") and named.get("strict", True):
            compare_shapes(named["model"], str(checkpoint))
    except MissingFile as error:
        raise MissingFile(f"{AUTOENCODER}: {error}") from error
    except UserError as error:
        raise UserError(f"{AUTOENCODER}: {error}") from error
    for tree in (config.data, config.source):
        params = tree["model"]["params"]
        start = {"checkpoint": params["autoencoder"]["params"]["checkpoint"], "first_stage": True}
        params |= {"autoencoder": copy.deepcopy(source.node), "start": {"target": START, "params": start}}
        if source.latents:
            tree["latents"] = copy.deepcopy(source.latents)
    _tell(source)


def _take_over(config: Config, model: dict[str, Any]) -> None:
    stage = _params(model["first_stage"])
    lenient, scale = stage.get("strict") is False, model.get("scale") == FROM_FILE
    if not stage.get("checkpoint") or not (lenient or scale):
        return
    try:
        source = first_stage_source(str(stage["checkpoint"]))
    except UserError:
        return
    for tree in (config.data, config.source):
        params = tree["model"]["params"]["model"]["params"]
        if lenient:
            params["first_stage"]["params"] = {"checkpoint": params["first_stage"]["params"]["checkpoint"]}
        if scale:
            stated = copy.deepcopy(source.latents or {"scale": "std"})
            params |= {key: value for key, value in stated.items() if key == "scale" or params.get(key) is None}
    if scale:
        _tell(source)


def _tell(source: LoadedCheckpoint) -> None:
    if source.latents:
        said = ", ".join(f"{name} {_shown(value)}" for name, value in source.latents.items())
        log.info("%s states of its latents: %s", source.path, said)


def _shown(value: Any) -> str:
    return f"of {len(value)} channels" if isinstance(value, list) else f"{value:g}"


def _params(node: Any) -> dict[str, Any]:
    params = node.get("params") if isinstance(node, dict) else None
    return params if isinstance(params, dict) else {}


def _is_pretrained(node: Any) -> bool:
    return isinstance(node, dict) and node.get("target") == PRETRAINED
