"""Read a checkpoint with CompVis names: a model, or the first stage alone."""

import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from ldm.checkpoint.foreign import FOREIGN
from ldm.checkpoint.source import PRETRAINED, LoadedCheckpoint, nodes_of, set_text_source, unwrap
from ldm.config import AllowedTargets, build, load, parse
from ldm.errors import MissingFile, UserError
from ldm.first_stage.base import FirstStage
from ldm.interop import compvis, dit
from ldm.interop.compvis.state import Weights, first_stage_from_state, from_state
from ldm.interop.compvis.text import TARGET as TEXT
from ldm.interop.compvis.text import with_names_of_transformers
from ldm.interop.leftovers import note_on
from ldm.model import LatentDiffusion
from ldm.nn.meta import on_meta

log = logging.getLogger(__name__)


def read_compvis(
    path: Path,
    state: dict[str, Tensor],
    notes: list[str],
    step: int,
    config: str | None,
    stage: FirstStage | None,
    tokenizer: str | None,
    only_stage: bool,
) -> LoadedCheckpoint:
    """A state dict with CompVis names and its YAML."""
    source = LoadedCheckpoint(path, {}, Weights({}), step, notes=notes)
    if stage is not None or only_stage:
        _read_stage(source, state, config, stage)
    else:
        try:
            _read_model(source, state, config, tokenizer)
        except UserError:
            if compvis.node_of(state) is None:
                raise
            _read_stage(source, state, config, None)  # an autoencoder, of which neither loss nor data are needed
    source.notes += note_on(source.weights.dropped)
    for note in source.notes:
        log.info("%s: %s", path, note)
    return source


def _read_model(source: LoadedCheckpoint, state: dict[str, Tensor], config: str | None, tokenizer: str | None) -> None:
    """Config and weights of a model, or of an autoencoder with its training."""
    path = source.path
    source.config = load([Path(config) if config else beside(path)], foreign=FOREIGN).data
    for text in nodes_of(source.config, (TEXT,)):
        if tokenizer is not None:
            set_text_source(text, tokenizer, path)
        if any(key.startswith("cond_stage_model.") for key in state):
            text["params"]["stored"] = True
            state, unused = with_names_of_transformers(state, text["params"])
            source.notes += note_on(unused)
    with on_meta():
        model = build(unwrap(source.node) if source.stage_two else source.node, AllowedTargets().for_model(PRETRAINED), "model")
    if isinstance(model, LatentDiffusion):
        params = source.params
        learned = ((params.get("objective") or {}).get("params") or {}).get("log_variances") is not None
        source.weights = from_state(model, state, str(path), ema=params.get("ema_decay") is not None, log_variance=learned)
        params["model"] = unwrap(params["model"])
    else:
        source.weights = first_stage_from_state(model, state, str(path))


def _read_stage(source: LoadedCheckpoint, state: dict[str, Tensor], config: str | None, stage: FirstStage | None) -> None:
    """Config and weights of an autoencoder, alone or inside a model. Its structure is that of the YAML, without one that of `stage`, or
    else it follows from the weights; the scale of latents is the model's, or that of the statistics beside it."""
    path, prefix = source.path, "first_stage_model."
    inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)} or state
    node, latents = None, dict[str, Any]()
    try:
        node, latents = _stage_in_yaml(Path(config) if config else beside(path))
    except MissingFile:
        if stage is None and (node := compvis.node_of(inside)) is None:
            raise
        if stage is None:
            source.notes.append("without a YAML: the structure follows from the shapes of the weights")
    except UserError:
        if stage is None:
            raise
    if node is not None:
        source.config = {"model": {"params": {"autoencoder": node}}}
        with on_meta():  # a caller that knows the architecture compares the two
            stage = build(node, AllowedTargets().for_model(), "first_stage")
    assert stage is not None
    source.weights = first_stage_from_state(stage, inside, str(path))
    if "scale_factor" in state:
        latents = {"scale": float(state["scale_factor"])}
    if path.with_name(dit.STATISTICS).is_file():
        mean, std = dit.latent_statistics(path, None, stage.channels)
        latents = {"scale": (1.0 / std).flatten().tolist(), "mean": mean.flatten().tolist()}
    if latents:
        source.config["latents"] = latents


def _stage_in_yaml(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The node of a first stage in a YAML of CompVis or of this project, and the scale and mean of its latents if they are stated."""
    content = parse(file.read_text(encoding="utf-8"), str(file))
    if compvis.is_compvis(content):
        return compvis.first_stage_in(content, str(file))
    source = LoadedCheckpoint(file, load([file]).data, Weights({}))
    node = unwrap(source.node)["params"].get("first_stage") or {} if source.stage_two else source.node
    if "params" not in node or node.get("target") == PRETRAINED:
        raise UserError(f"{file}: does not describe the structure of a first stage")
    return node, source.latents or {}


def beside(path: Path) -> Path:
    """The YAML that belongs to a checkpoint.

    Raises:
        MissingFile: there is none.
    """
    run = sorted(path.parent.parent.glob("configs/*-project.yaml"))  # a run folder of the original code
    for candidate in (path.with_suffix(".yaml"), path.with_name("config.yaml"), *run[-1:]):
        if candidate.is_file():
            return candidate
    if (path.parent / "config.json").is_file() or (path.parent.parent / "model_index.json").is_file():
        raise UserError(f"{path}: a file of a diffusers folder; name the folder")
    raise MissingFile(
        f"{path}: no config of this project inside; a CompVis checkpoint needs the YAML it was trained with: give --config FILE, or put "
        f"{path.stem}.yaml or config.yaml beside it"
    )
