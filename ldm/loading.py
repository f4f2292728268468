"""From a path to a model: the one place that reads models, above everything that knows what a model is."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldm.config import Trust, build
from ldm.errors import MissingFile, UserError
from ldm.files import fingerprint, newest_weights, read_metadata, read_weights
from ldm.first_stage.base import FirstStage
from ldm.latent_diffusion import LatentDiffusion


def pretrained(checkpoint: str | None = None, model: FirstStage | None = None) -> FirstStage:
    """A trained first stage, frozen, for use in a stage-two config.

    Args:
        checkpoint: a run folder of stage one, or a weights file from one.
        model: the architecture, if the config names it (usually by `from:`); else it is built from the config inside the
            checkpoint.

    Raises:
        MissingFile: no such checkpoint.
        UserError: weights that do not fit the architecture.
    """
    if not checkpoint:
        raise MissingFile("the first stage's checkpoint is not set: give a run folder of stage one or its weights file")
    path = newest_weights(Path(checkpoint))
    weights, metadata = read_weights(path)
    if model is None:
        node = stage_one_node(metadata, path)
        model = build(node, Trust(), "model.params.autoencoder")
        assert isinstance(model, FirstStage)
    load_strictly(model, weights, path)
    model.checkpoint = str(path)  # type: ignore[assignment]
    model.sha256 = fingerprint(weights)  # type: ignore[assignment]
    return model.requires_grad_(False).eval()


def starting_weights(checkpoint: str | None = None) -> dict[str, Tensor]:
    """Weights of a stage-two run to begin another one with (fine-tuning), without those of its first stage.

    Args:
        checkpoint: a run folder of stage two, or a weights file from one.

    Raises:
        MissingFile: no such checkpoint.
    """
    if not checkpoint:
        raise MissingFile("the weights to fine-tune are not set: give a run folder of stage two or its weights file")
    weights, _ = read_weights(newest_weights(Path(checkpoint)))
    return {name: value for name, value in weights.items() if name.startswith(("network.", "conditioner.")) or name == "scale"}


def stage_one_node(metadata: dict[str, Any], path: Path) -> Any:
    """The autoencoder's node in the config inside a weights file.

    Raises:
        UserError: the file is not of stage one.
    """
    params = metadata.get("config", {}).get("model", {}).get("params", {})
    if "autoencoder" not in params:
        raise UserError(f"{path}: not the weights of a first stage (its config has no model.params.autoencoder)")
    return params["autoencoder"]


def load_strictly(module: nn.Module, weights: dict[str, Tensor], path: Path, ignore: str = "") -> None:
    """Load weights, every name and shape of them; names below `ignore` may be missing.

    Raises:
        UserError: names the first differences.
    """
    own = module.state_dict()
    wanted = {name for name in own if not ignore or not name.startswith(ignore)}
    if wanted != weights.keys():
        missing, extra = sorted(wanted - weights.keys()), sorted(weights.keys() - wanted)
        raise UserError(f"{path} does not fit the config: missing {missing[:3]}, unknown {extra[:3]}")
    for name, value in weights.items():
        if value.shape != own[name].shape:
            raise UserError(f"{path} does not fit the config: {name} is {tuple(value.shape)}, expected {tuple(own[name].shape)}")
    module.load_state_dict(weights, strict=not ignore)


@dataclass
class LoadedModel:
    """A model ready to sample.

    Attributes:
        model: in eval mode.
        config: the resolved config it was trained with.
        path: of the weights.
        sha256: of the weights.
        step: training step.
    """

    model: LatentDiffusion
    config: dict[str, Any]
    path: Path
    sha256: str
    step: int


def load_model(path: str, first_stage: str | None = None, allow_other_first_stage: bool = False, trust: Trust | None = None) -> LoadedModel:
    """A latent diffusion model from a run folder or from weights of ours.

    Args:
        path: run folder or `.safetensors` file.
        first_stage: use this first stage instead of the one the weights name.
        allow_other_first_stage: accept one whose hash differs from that in training.
        trust: packages that the config inside may name.

    Raises:
        MissingFile, UserError: with the file and what was expected.
    """
    file = newest_weights(Path(path))
    metadata = read_metadata(file)
    config: dict[str, Any] = metadata.get("config") or {}
    if not isinstance(config, dict):
        raise UserError(f"{file}: the config in its header is not one of this project")
    node: Any = config.get("model", {}).get("params", {}).get("model")
    if not isinstance(node, dict):
        kind = "a first stage" if "autoencoder" in config.get("model", {}).get("params", {}) else "unknown"
        raise UserError(f"{file}: holds {kind}, expected the weights of a latent diffusion model (stage two)")
    trained_with = metadata.get("first_stage") or {}
    part = node["params"].get("first_stage", {})
    if part.get("target") == "ldm.loading.pretrained":
        part["params"]["checkpoint"] = first_stage or trained_with.get("path") or part["params"].get("checkpoint")
    model = build(node, trust or Trust(), "model.params.model")
    found, expected = str(getattr(model.first_stage, "sha256", "")), str(trained_with.get("sha256") or "")
    if expected and found != expected and not allow_other_first_stage:
        raise UserError(
            f"{model.first_stage.checkpoint}: this is not the first stage that {file} was trained with (SHA-256 {found[:12]}..., "
            f"expected {expected[:12]}...); name the right one with --first-stage, or allow it with --allow-other-first-stage"
        )
    weights, _ = read_weights(file)
    load_strictly(model, weights, file, ignore="first_stage.")
    return LoadedModel(model.eval(), config, file, fingerprint(weights), int(metadata.get("step", -1)))


def pick_device(name: str = "auto") -> torch.device:
    """The device to sample on.

    Raises:
        UserError: one that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps", "xpu"):
            raise RuntimeError("there are cpu, cuda and mps")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def precision_context(name: str, device: torch.device) -> Any:
    """Autocast for "bf16" and "fp16", nothing for "fp32".

    Raises:
        UserError: an unknown precision.
    """
    kinds = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name not in kinds:
        raise UserError(f"precision {name!r} is unknown; there are {', '.join(kinds)}")
    return torch.autocast(device.type, kinds[name]) if kinds[name] else nullcontext()
