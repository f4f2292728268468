"""Convert models between formats, for `scripts/convert.py`."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from ldm.checkpoint.fit import fitted
from ldm.checkpoint.frozen import outside_first_stage
from ldm.checkpoint.source import PICKLES, PRETRAINED, LoadedCheckpoint, trained_size, unwrap
from ldm.config import AllowedTargets, build
from ldm.errors import UserError
from ldm.interop import compvis, diffusers, dit
from ldm.interop.compvis import state
from ldm.interop.compvis.autoencoder import write_first_stage
from ldm.interop.compvis.model import write_latent_diffusion
from ldm.model import LatentDiffusion
from ldm.nn.meta import on_meta
from ldm.system.files import write_text
from ldm.system.weights import fingerprint, save_pickled, save_tensors, save_weights

UNKNOWN_SIZE = 256  # of images in pixels, if the config does not contain it


def with_first_stage(source: LoadedCheckpoint, first_stage: str | None = None, trust: AllowedTargets | None = None) -> LoadedCheckpoint:
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
    node, inner = copy.deepcopy(source.node), outside_first_stage(source, first_stage, (trust or AllowedTargets()).for_model())
    if inner is not None:
        named = (node["params"]["first_stage"].get("params") or {}).get("model")
        node["params"]["first_stage"] = named or inner.node
        expected, tensors = source.trained_with.get("sha256"), inner.weights.chosen()
        if expected and fingerprint(tensors) != expected:
            raise UserError(
                f"{inner.path}: not the first stage that {source.path} was trained with (its SHA-256 differs): name that with --first-stage"
            )
        source.weights.tensors |= {f"first_stage.{name}": value for name, value in tensors.items()}
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


def build_model(source: LoadedCheckpoint, raw: bool = False, trust: AllowedTargets | None = None) -> Any:
    """Build the model with its weights, in eval mode."""
    return fitted(nn.Module, source.node, (trust or AllowedTargets()).for_model(), source.weights.chosen(raw), source.path, "model").eval()


def to_compvis(source: LoadedCheckpoint, target: Path, trust: AllowedTargets | None = None) -> list[str]:
    """`model.ckpt` and `config.yaml` in the format of the original code."""
    with on_meta():
        model = build(source.node, (trust or AllowedTargets()).for_model(), "model")
    if isinstance(model, LatentDiffusion):
        params, scale = source.node["params"], source.weights.tensors.get("scale")
        written = params.get("scale", 1.0)
        if written != "std" and scale is not None and scale.ndim == 0 and not math.isclose(float(scale), written, rel_tol=1e-6):
            params["scale"] = float(scale)  # with a constant scale, their checkpoint has no such buffer
        size = min(trained_size(source.config) or [UNKNOWN_SIZE]) // model.first_stage.factor
        tree = write_latent_diffusion(source.node, source.params.get("objective"), bool(source.weights.ema), size)
        tensors = state.to_state(model, source.weights)
    else:
        tree = write_first_stage(source.node, alone=True)
        tensors = state.first_stage_to_state(model, source.weights)
    compvis.write_state(target / "model.ckpt", tensors, max(source.step, 0))
    containers = json.loads(json.dumps({"model": tree}, default=lambda tensor: tensor.item()))  # without tuples and tensors
    write_text(target / "config.yaml", yaml.safe_dump(containers, sort_keys=False, allow_unicode=True))
    return []


def to_dit(source: LoadedCheckpoint, target: Path, trust: AllowedTargets | None = None) -> list[str]:
    """A state dict with the names of DiT, SiT and LightningDiT, as `.safetensors` or by torch.save; in a folder together with mean and
    deviation of latents if these are scaled per channel."""
    with on_meta():
        model = build(unwrap(source.node), (trust or AllowedTargets()).for_model(PRETRAINED), "model")
    if not isinstance(model, LatentDiffusion):
        raise UserError(f"{source.path}: a first stage, which checkpoints of DiT do not contain")
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


def to_diffusers(
    source: LoadedCheckpoint, target: Path, raw: bool = False, size: int | None = None, trust: AllowedTargets | None = None
) -> list[str]:
    """A folder that diffusers' own classes load.

    Args:
        source: a model with its first stage.
        target: the folder.
        raw: use the weights as trained instead of their average.
        size: image size of the pipeline; the shorter side of the training data if None.
        trust: allowed targets of the config inside.
    """
    trained = trained_size(source.config)
    side = size or (min(trained) if trained else None)
    notes = diffusers.write_folder(build_model(source, raw, trust), source.node, target, side, source.latents)
    if size is None and trained and trained[0] != trained[1]:
        notes.append(f"pipelines give squares of {min(trained)} by default; trained on height={trained[0]}, width={trained[1]}")
    return notes
