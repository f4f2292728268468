"""Convert models between formats, for `scripts/convert.py`."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from ldm.checkpoint.first_stage import find_first_stage
from ldm.checkpoint.fit import fitted
from ldm.checkpoint.frozen import first_stage_source
from ldm.checkpoint.source import PICKLES, PRETRAINED, LoadedCheckpoint, trained_size, unwrap
from ldm.config import AllowedTargets, build
from ldm.errors import UserError
from ldm.interop import compvis, diffusers, dit
from ldm.interop.compvis import export, state
from ldm.model import LatentDiffusion
from ldm.system.files import fingerprint, save_pickled, save_tensors, save_weights, write_text


def whole(source: LoadedCheckpoint, first_stage: str | None = None, trust: AllowedTargets | None = None) -> LoadedCheckpoint:
    """Include the first stage in a model and its config.

    Args:
        source: the checkpoint as read.
        first_stage: path of a first stage to use instead of the recorded one.
        trust: packages that the config inside may name.

    Raises:
        MissingFile: the first stage is missing.
        UserError: it is not recorded, or it differs from the one in training.
    """
    if not source.stage_two:
        return source
    node = copy.deepcopy(source.node)
    stage = node["params"]["first_stage"]
    if stage.get("target") == PRETRAINED:
        path = first_stage or find_first_stage(source.path, source.trained_with, stage, trust)
        named = (stage.get("params") or {}).get("model")
        with torch.device("meta"):
            architecture = build(named, (trust or AllowedTargets()).for_model(), "first_stage") if named else None
        inner = first_stage_source(path, architecture)
        node = unwrap(node) if (stage["params"] or {}).get("model") else {**node, "params": {**node["params"], "first_stage": inner.node}}
        expected = source.trained_with.get("sha256")
        tensors = inner.weights.chosen()
        if expected and fingerprint(tensors) != expected:
            raise UserError(
                f"{path}: not the first stage that {source.path} was trained with (its SHA-256 differs): name that with --first-stage"
            )
        source.weights.tensors |= {f"first_stage.{name}": value for name, value in tensors.items()}
    elif first_stage:
        raise UserError(f"--first-stage: {source.path} has its first stage inside")
    config = copy.deepcopy(source.config)
    config["model"]["params"]["model"] = node
    source.config, source.trained_with = config, {}
    return source


def to_ldm(source: LoadedCheckpoint, target: Path) -> list[str]:
    """A single safetensors file: averaged and raw weights, the loss of a first stage, and the config in its header."""
    path = target
    if path.suffix != ".safetensors":
        path = path / "checkpoints" / f"step-{max(source.step, 0)}.safetensors"
        write_text(target / "config.yaml", yaml.safe_dump(source.config, sort_keys=False, allow_unicode=True))
    metadata: dict[str, Any] = {"ldm_checkpoint": 1, "step": source.step, "config": source.config, "ema": source.weights.ema}
    save_weights(path, source.weights.tensors, metadata)
    return []


def built(source: LoadedCheckpoint, raw: bool = False, trust: AllowedTargets | None = None) -> Any:
    """Build the model with its weights, in eval mode."""
    return fitted(nn.Module, source.node, (trust or AllowedTargets()).for_model(), source.weights.chosen(raw), source.path, "model").eval()


def to_compvis(source: LoadedCheckpoint, target: Path, trust: AllowedTargets | None = None) -> list[str]:
    """`model.ckpt` and `config.yaml` in the format of the original code."""
    with torch.device("meta"):
        model = build(source.node, (trust or AllowedTargets()).for_model(), "model")
    params = source.config["model"]["params"]
    if isinstance(model, LatentDiffusion):
        if source.node["params"].get("scale") != "std":
            constant(source, params)
        size = latent_size(source, model)
        tree = export.latent_diffusion(source.node, params.get("objective"), bool(source.weights.ema), size)
        tensors = state.to_state(model, source.weights)
    else:
        tree = export.first_stage(source.node, alone=True)
        tensors = state.first_stage_to_state(model, source.weights)
    compvis.write_state(target / "model.ckpt", tensors, max(source.step, 0))
    text = yaml.safe_dump({"model": plain(tree)}, sort_keys=False, allow_unicode=True)
    write_text(target / "config.yaml", text)
    return []


def to_dit(source: LoadedCheckpoint, target: Path, trust: AllowedTargets | None = None) -> list[str]:
    """A state dict with the names of DiT, SiT and LightningDiT, as `.safetensors` or by torch.save; in a folder together with mean and
    deviation of latents if these are scaled per channel."""
    with torch.device("meta"):
        model = build(unwrap(source.node), (trust or AllowedTargets()).for_model(PRETRAINED), "model")
    if not isinstance(model, LatentDiffusion):
        raise UserError(f"{source.path}: a first stage; checkpoints of DiT hold none")
    content, tensors = dit.to_state(model, source.weights), source.weights.tensors
    if target.suffix == ".safetensors":
        save_tensors(target, content["ema"] if source.weights.ema else content)
    elif target.suffix in PICKLES:
        save_pickled(target, content)
    else:
        save_pickled(target / "model.pt", content)
        if model.mean is not None:
            save_pickled(
                target / dit.STATISTICS, {"mean": tensors["mean"][None], "std": 1.0 / tensors["scale"].expand_as(tensors["mean"])[None]}
            )
    return ["without first stage, process, and scale of latents, which these programs do not read from this file"]


def constant(source: LoadedCheckpoint, params: dict[str, Any]) -> None:
    """Write the scale into their config if it is not one of their buffers."""
    scale = source.weights.tensors.get("scale")
    if (
        scale is not None
        and scale.ndim == 0
        and abs(float(scale) - float(source.node["params"].get("scale", 1.0))) > 1e-6 * abs(float(scale))
    ):
        params["model"]["params"]["scale"] = float(scale)


def latent_size(source: LoadedCheckpoint, model: LatentDiffusion) -> int:
    """Latent size in training, if the config contains it."""
    size = trained_size(source.config)
    return 256 // model.first_stage.factor if size is None else size // model.first_stage.factor


def plain(value: Any) -> Any:
    """Convert to lists and mappings that YAML writes without tags."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, Tensor) else value


def to_diffusers(
    source: LoadedCheckpoint, target: Path, raw: bool = False, size: int | None = None, trust: AllowedTargets | None = None
) -> list[str]:
    """A folder that diffusers' own classes load.

    Args:
        source: a model with its first stage.
        target: the folder.
        raw: use the weights as trained instead of their average.
        size: image size of the pipeline; that of the training data if None.
        trust: allowed targets of the config inside.
    """
    return diffusers.write_folder(built(source, raw, trust), source.node, target, size or trained_size(source.config))
