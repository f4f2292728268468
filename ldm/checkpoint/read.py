"""Read a model from a run folder, weights of this project, a CompVis or DiT checkpoint, or a diffusers folder."""

import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from ldm.checkpoint.read_compvis import beside, read_compvis
from ldm.checkpoint.source import PICKLES, PRETRAINED, LoadedCheckpoint, nodes_of, stage_of, unwrap
from ldm.config import AllowedTargets, build, load, require_shape
from ldm.errors import MissingFile, UserError, understood
from ldm.first_stage.base import FirstStage
from ldm.interop import compvis, diffusers, dit
from ldm.interop.compvis.state import RAW, Weights
from ldm.interop.leftovers import tensors_of
from ldm.model import LatentDiffusion
from ldm.nn.meta import on_meta
from ldm.system.run_folder import newest_checkpoint, newest_weights, resolve_last
from ldm.system.weights import checked, read_weights

log = logging.getLogger(__name__)
KINDS = (
    "a run folder, weights (.safetensors), a CompVis checkpoint (.ckpt or .safetensors, with its YAML), a checkpoint of DiT, SiT or "
    "LightningDiT (.pt or .safetensors, with a YAML of ours), or a diffusers folder"
)


def read_source(
    name: str, config: str | None = None, full: bool = False, stage: FirstStage | None = None, tokenizer: str | None = None
) -> LoadedCheckpoint:
    """Read a model in any supported format.

    Args:
        name: path of the model; of another program's checkpoint also the folder that holds it alone.
        config: YAML of a CompVis or DiT checkpoint; if None, `config.yaml` or a YAML of the checkpoint's name beside it.
        full: for a run folder, read the full training state, which has averaged and raw weights.
        stage: the architecture, if the caller knows that the file is a first stage.
        tokenizer: folder of the text model's tokenizer or pretrained encoder, instead of the one in the config.

    Raises:
        MissingFile: no such file.
        UserError: not a model, or one that does not match its config.
    """
    with understood(name):
        return _read(resolve_last(Path(name)), config, full, stage, tokenizer)


def read_first_stage(name: str, stage: FirstStage | None = None) -> LoadedCheckpoint:
    """Read a first stage: alone, or the one inside a model, in any format of `read_source`.

    Args:
        name: its path; of a diffusers model the folder of the model, of the autoencoder in it, or its weights.
        stage: the architecture, if the caller knows it.

    Raises:
        MissingFile: no such file.
        UserError: not a first stage, or one that does not match its config.
    """
    with understood(name):
        path = resolve_last(Path(name))
        if path.is_dir() and diffusers.is_folder(path):
            return _diffusers(path, diffusers.read_first_stage(path))
        return stage_of(_read(path, None, False, stage, None, only_stage=True))


def _read(
    path: Path, config: str | None, full: bool, stage: FirstStage | None, tokenizer: str | None, only_stage: bool = False
) -> LoadedCheckpoint:
    if path.suffix in (".yaml", ".yml") and path.is_file():
        raise UserError(f"{path}: a config, without weights; expected {KINDS}")
    if path.is_dir() and diffusers.is_folder(path):
        return _diffusers(path, diffusers.read_folder(path))
    if full and path.is_dir() and any((path / "checkpoints").glob("step-*.ckpt")):
        path = newest_checkpoint(path)
    path = _only_file(path)
    file = path if path.suffix in PICKLES and path.is_file() else newest_weights(path)
    if file.suffix in PICKLES:
        content = compvis.read(file)
        if "ldm_checkpoint" in content:
            return _training_state(file, checked(content, file))
        if stage is None and (states := dit.states_of(content, str(file))):
            return _dit(file, *states, config)
        step = content.get("global_step", -1)
        return read_compvis(
            file, *compvis.state_of(content, file), step if isinstance(step, int) else -1, config, stage, tokenizer, only_stage
        )
    tensors, metadata = read_weights(file)
    if "config" not in metadata:  # of another program: most have the content of a .ckpt
        if stage is None and (states := dit.states_of(tensors, str(file))):
            return _dit(file, *states, config)
        if diffusers.is_autoencoder(tensors):
            return _diffusers(file, diffusers.read_first_stage(file))
        return read_compvis(file, *tensors_of(tensors, str(file)), -1, config, stage, tokenizer, only_stage)
    return _ours(file, tensors, metadata)


def _only_file(path: Path) -> Path:
    """The only checkpoint in a folder that is no run, such as `model.ckpt` beside its YAML; any other path is returned unchanged.

    Raises:
        UserError: the folder holds several.
    """
    if not path.is_dir() or (path / "checkpoints").is_dir():
        return path
    files = sorted(file for file in path.iterdir() if file.suffix in (*PICKLES, ".safetensors") and file.name != dit.STATISTICS)
    if len(files) > 1:
        raise UserError(f"{path}: holds {len(files)} checkpoints, {', '.join(file.name for file in files[:3])}: name one of them")
    return files[0] if files else path


def _ours(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> LoadedCheckpoint:
    if not isinstance(metadata.get("config"), dict):
        raise UserError(f"{path}: no config of this project in its header; expected {KINDS}")
    config = require_shape(metadata["config"], str(path))
    for part in nodes_of(config.get("model"), ("ldm.conditioning.BertTokenizer",)):  # of a published folder, which has its vocabulary
        params = part.get("params")
        if isinstance(params, dict) and isinstance(params.get("source"), str) and (path.parent / params["source"] / "vocab.txt").is_file():
            params["source"] = str(path.parent / params["source"])
    step, ema, trained_with = metadata.get("step", -1), metadata.get("ema") or {}, metadata.get("first_stage") or {}
    for key, value, kind in (("step", step, int), ("ema", ema, dict), ("first_stage", trained_with, dict)):
        if not isinstance(value, kind):
            raise UserError(f"{path}: {key!r} in its header is a {type(value).__name__}; expected weights of this project")
    return LoadedCheckpoint(path, config, Weights(tensors, ema), step, trained_with)


def _dit(path: Path, state: dict[str, Tensor], raw: dict[str, Tensor], notes: list[str], config: str | None) -> LoadedCheckpoint:
    """A state dict with DiT's names, and a config of this project that describes it."""
    try:
        file = Path(config) if config else beside(path)
    except MissingFile as error:
        raise MissingFile(f"{path}: DiT, SiT and LightningDiT look alike, and the file does not say which it is: {dit.ADVICE}") from error
    source = LoadedCheckpoint(path, load([file]).data, Weights({}), notes=notes)
    source.notes += dit.fit_node(source.node, state)
    with on_meta():
        model = build(unwrap(source.node), AllowedTargets().for_model(PRETRAINED), "model")
    if not isinstance(model, LatentDiffusion):
        raise UserError(f"{file}: does not describe a latent diffusion model; {dit.ADVICE}")
    source.weights = dit.from_state(model, state, raw, str(path))
    if model.scale_by_std:
        mean, std = dit.latent_statistics(path, (source.config.get("paths") or {}).get("latent_stats"), model.first_stage.channels)
        source.weights.tensors |= {"mean": mean, "scale": 1.0 / std}
    for note in source.notes:
        log.info("%s: %s", path, note)
    return source


def _training_state(path: Path, content: dict[str, Any]) -> LoadedCheckpoint:
    """Raw and averaged weights from a full training state of this project."""
    renamed = {}
    for name, value in content["model"].items():
        if name.startswith("discriminator."):
            name = f"loss.{name}"
        renamed[name.removeprefix("autoencoder.")] = value
    averages = {name.removeprefix("ema."): value for name, value in (content["ema"] or {}).items() if name.startswith("ema.")}
    tensors = renamed | averages | {RAW + name: renamed[name] for name in averages}
    config = require_shape(content["config"], str(path))
    source = LoadedCheckpoint(path, config, Weights(tensors), int(content["step"]), content.get("first_stage") or {})
    if averages:
        source.weights.ema = {"decay": source.params.get("ema_decay") or 0.9999, "updates": int(content["ema"]["updates"])}
    return source


def _diffusers(path: Path, found: diffusers.DiffusersModel) -> LoadedCheckpoint:
    optimizer = {"target": "torch.optim.AdamW", "partial": True, "params": {"lr": 1e-4}}
    if found.node["target"] == "ldm.model.LatentDiffusion":
        model = {"target": "ldm.training.DiffusionTraining", "params": {"model": found.node, "optimizer": optimizer}}
    else:
        loss = {"target": "ldm.first_stage.AutoencoderLoss", "params": {}}
        model = {"target": "ldm.training.AutoencoderTraining", "params": {"autoencoder": found.node, "loss": loss, "optimizer": optimizer}}
    config: dict[str, Any] = {"model": model}
    if found.latents:
        config["latents"] = found.latents
    if found.size is not None:  # sampling scripts read the size of the images here
        config["data"] = {"params": {"train": {"params": {"size": found.size}}}}
    return LoadedCheckpoint(path, config, Weights(dict(found.weights)), notes=list(found.notes))
