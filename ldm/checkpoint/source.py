"""A model as stored: weights and config. Helpers to find nodes in such configs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ldm.errors import UserError
from ldm.interop.compvis.state import Weights
from ldm.interop.compvis.text import TARGET as TEXT

PRETRAINED = "ldm.checkpoint.load.pretrained"
PICKLES = (".ckpt", ".pt", ".pth")


@dataclass
class LoadedCheckpoint:
    """A model as stored.

    Attributes:
        path: path of the weights.
        config: the config it was trained with, in the format of this project.
        weights: weights by the names of this project, see `ldm.interop.compvis.state`; of stage one without a prefix.
        step: training step; -1 if unknown.
        trained_with: path and SHA-256 of a first stage that is not among the weights; empty if it is.
        notes: remarks for the user.
    """

    path: Path
    config: dict[str, Any]
    weights: Weights
    step: int = -1
    trained_with: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def params(self) -> dict[str, Any]:
        """Arguments of the training module in the config; empty if there are none."""
        model = self.config.get("model")
        params = model.get("params") if isinstance(model, dict) else None
        return params if isinstance(params, dict) else {}

    @property
    def stage_two(self) -> bool:
        """Whether it is a latent diffusion model."""
        return isinstance(self.params.get("model"), dict)

    @property
    def latents(self) -> dict[str, Any] | None:
        """Scale and mean of the latents of a first stage, see `FirstStage.latents`; None if they are not stated."""
        return self.config.get("latents") or None

    @property
    def kind(self) -> str:
        """What it is, for messages."""
        names = {"model": "a latent diffusion model", "autoencoder": "a first stage", "classifier": "a classifier"}
        return next((name for key, name in names.items() if key in self.params), "something unknown")

    @property
    def node(self) -> dict[str, Any]:
        """Config node of the latent diffusion model or of the first stage.

        Raises:
            UserError: the config describes neither.
        """
        for key in ("model", "autoencoder"):
            node = self.params.get(key)
            if isinstance(node, dict) and isinstance(node.get("params"), dict):
                return node
        raise UserError(f"{self.path}: the config in it describes neither a latent diffusion model nor a first stage")


def trained_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of the training images of a config in pixels, None if unknown: of the data set itself, of the one
    below masks or degradations (`images`), or of the first of several (`sets`).
    """
    data = config.get("data")
    return _size_of((data.get("params") or {}).get("train")) if isinstance(data, dict) else None


def _size_of(dataset: Any) -> tuple[int, int] | None:
    params = dataset.get("params") if isinstance(dataset, dict) else None
    if not isinstance(params, dict):
        return None
    size = params.get("size")
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(side, int) for side in size):
        return int(size[0]), int(size[1])
    sets = params.get("sets")
    below = (params.get("images"), *(sets if isinstance(sets, list) else ()))
    return next((size for inner in below if (size := _size_of(inner)) is not None), None)


def nodes_of(node: Any, targets: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """All nodes of a config, at any depth, with one of these targets; all mappings in it without `targets`."""
    if isinstance(node, list):
        return [found for item in node for found in nodes_of(item, targets)]
    if not isinstance(node, dict):
        return []
    below = [found for item in node.values() for found in nodes_of(item, targets)]
    return [node, *below] if not targets or node.get("target") in targets else below


def unwrap(node: dict[str, Any]) -> dict[str, Any]:
    """A latent diffusion model's node with the node of its first stage in place of `pretrained`, if it is known."""
    stage = node["params"].get("first_stage", {})
    inner = (stage.get("params") or {}).get("model") if stage.get("target") == PRETRAINED else None
    return {**node, "params": {**node["params"], "first_stage": inner}} if inner else node


def stage_of(source: LoadedCheckpoint) -> LoadedCheckpoint:
    """The first stage inside a latent diffusion model; any other source is returned unchanged.

    Raises:
        UserError: a model whose first stage is in another file.
    """
    if not source.stage_two:
        return source
    node, prefix = source.node["params"].get("first_stage") or {}, "first_stage."
    if node.get("target") == PRETRAINED:
        raise UserError(f"{source.path}: no first stage: it contains a latent diffusion model, whose first stage is in another file")
    chosen = source.weights.chosen()
    weights = {name.removeprefix(prefix): value for name, value in chosen.items() if name.startswith(prefix)}
    stated = {name: chosen[name] for name in ("scale", "mean") if name in chosen and bool(chosen[name].isfinite().all())}
    latents = {name: value.flatten().tolist() if value.ndim else float(value) for name, value in stated.items()}
    config = {"model": {"params": {"autoencoder": node}}, "latents": latents}
    return LoadedCheckpoint(source.path, config, Weights(weights), source.step, notes=source.notes)


def set_text_source(node: Any, folder: str, file: Path) -> None:
    """Set the source folder of the conditioner's tokenizer or pretrained text encoder.

    Raises:
        UserError: a model without either.
    """
    found = nodes_of(node, ("ldm.conditioning.BertTokenizer", TEXT))
    if not found:
        raise UserError(f"--tokenizer: {file} has no BERT tokenizer, and no CLIP or T5 encoder")
    for part in found:
        part.setdefault("params", {})["source"] = folder
