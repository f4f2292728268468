"""Released state dicts of DiT, SiT and LightningDiT <-> our weights, by renaming and signs alone, so that no bit is lost.

Here time grows with noise, and the velocity points to it. Networks of SiT and LightningDiT count time from noise to data and
predict the velocity towards data: a process with `time_reversed` tells them the time as they know it, and their final layer changes
its sign on the way in and out. DiT's times and its noise are ours.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.errors import MissingFile, UserError
from ldm.interop.compvis.checkpoint import read
from ldm.interop.compvis.state import RAW, Weights
from ldm.interop.dit.names import FINAL, TABLE, table_of
from ldm.interop.leftovers import drop_bookkeeping, tensors_of
from ldm.interop.names import store, take
from ldm.model import LatentDiffusion

MARKS = ("x_embedder.proj.weight", f"{FINAL}.weight", TABLE)  # entries that all three have, and no other program that is read here
ADVICE = "name the config of this model with --config FILE (one of configs/dit, or your own)"
STATISTICS = "latents_stats.pt"


def states_of(content: Mapping[str, Any], source: str) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]] | None:
    """The weights to use, the weights that they average (empty without an average), and notes; None for another kind of file.

    Args:
        content: a bare state dict, or a training file with `ema` and `model`.
        source: for messages.
    """
    named = {key: content[key] for key in ("ema", "model", "state_dict") if isinstance(content.get(key), Mapping)}
    having = {key: value for key, value in (named or {"": content}).items() if any(isinstance(x, Tensor) for x in value.values())}
    found = {key: tensors_of(value, source) for key, value in having.items()}
    found = {key: value for key, value in found.items() if all(mark in value[0] for mark in MARKS)}
    if not found:
        return None
    (first, (state, notes)), *others = found.items()
    return state, others[0][1][0] if first == "ema" and others else {}, notes


def fit_node(node: dict[str, Any], state: Mapping[str, Tensor]) -> list[str]:
    """Adapt a model's node to a file, which may be with or without variances, and with or without a null class; returns notes."""
    parts = (node["params"].get(part) for part in ("network", "conditioner"))
    network, conditioner = ((part.get("params") or {}) if isinstance(part, dict) else {} for part in parts)
    notes = []
    patch, channels = state["x_embedder.proj.weight"].shape[-1], network.get("out_channels", 0)
    learned = len(state[f"{FINAL}.weight"]) == 2 * patch**2 * channels
    if learned != network.get("learn_sigma", False):
        network["learn_sigma"] = learned
        notes.append(f"the final layer makes {'' if learned else 'no '}variances: learn_sigma is {str(learned).lower()}")
    if len(state[TABLE]) == conditioner.get("num_classes"):
        conditioner.update(null_class=False, uncond_prob=0.0)
        notes.append("there is no null class: guidance has nothing to guide away from")
    return notes


def from_state(model: LatentDiffusion, state: Mapping[str, Tensor], raw: Mapping[str, Tensor], source: str) -> Weights:
    """Our weights, all but the first stage's; `raw` is empty or the weights of which `state` is the average.

    Raises:
        UserError: entries that are missing, left over or of another shape.
    """
    result = Weights(_renamed(model, state, source))
    if raw:
        trained = _renamed(model, raw, source)
        result.tensors |= {RAW + name: value for name, value in trained.items() if not torch.equal(value, result.tensors[name])}
        result.ema = {"decay": 0.9999, "updates": 0}
    result.tensors |= {name: value.clone() for name in ("scale", "mean") if (value := getattr(model, name, None)) is not None}
    return result


def _renamed(model: LatentDiffusion, state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    left = dict(state)
    drop_bookkeeping(left)
    try:
        table = table_of(model)
    except UserError as error:
        raise UserError(f"{source}: by its config, {error}; {ADVICE}") from error
    try:
        return take(table, model.state_dict(), left, f"{source} does not fit its config", everything=True)
    except UserError as error:
        raise UserError(f"{error}; {ADVICE}") from error


def to_state(model: LatentDiffusion, weights: Weights) -> dict[str, Any]:
    """Their state dict; with an average, a dict of two, `model` and `ema`, as their training writes it.

    Raises:
        UserError: a model that has no counterpart there.
    """
    table = table_of(model)
    states = {
        key: {name: value.contiguous() for name, value in store(table, weights.chosen(raw)).items()}
        for key, raw in (("ema", False), ("model", True))
    }
    return states if weights.ema else states["ema"]


def latent_statistics(checkpoint: Path, named: str | None, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of latents, `(c, 1, 1)`: of the file that is named, or the file beside a checkpoint.

    Raises:
        MissingFile: neither exists.
        UserError: another kind of file.
    """
    places = [*([Path(named)] if named else []), checkpoint.with_name(STATISTICS)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise MissingFile(
            f"{places[0]}: the mean and deviation of latents are missing ({STATISTICS}, published with the autoencoder): "
            f"set paths.latent_stats in the config, or put the file beside {checkpoint}"
        )
    content = read(path)
    mean, std = content.get("mean"), content.get("std")
    if not isinstance(mean, Tensor) or not isinstance(std, Tensor) or not mean.shape == std.shape == (1, channels, 1, 1):
        raise UserError(f"{path}: expected mean and std of shape (1, {channels}, 1, 1)")
    return mean[0].float(), std[0].float()
