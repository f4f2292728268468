"""Fine-tuning: initialise a model with the weights of another."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ldm.conditioning.base import split_name
from ldm.errors import UserError
from ldm.model import LatentDiffusion
from ldm.nn.weights import mismatch

SHOWN = 12  # maximum number of names listed per kind


@dataclass(frozen=True)
class StartingWeights:
    """Initial weights for fine-tuning.

    Attributes:
        tensors: weights by the names of `LatentDiffusion`, without those of its first stage.
        path: path of their file, for messages.
        strict: every name and shape must match; else what matches is loaded, and the rest is listed.
        null_class: whether the last row of their class embedding is the null class.
    """

    tensors: Mapping[str, Tensor]
    path: str = "the starting weights"
    strict: bool = True
    null_class: bool = True


def own_weights(model: LatentDiffusion) -> dict[str, Tensor]:
    """All weights of a model except its first stage, by name."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith("first_stage.")}


@torch.no_grad()
def begin_with(model: LatentDiffusion, start: StartingWeights) -> list[str]:
    """Copy weights into a model; returns lines on what did not match, an empty list if everything did.

    If shapes differ, networks and conditioners decide what is copied: see `begin_from`.

    Raises:
        UserError: something does not match, and `start.strict` is true.
    """
    own = own_weights(model)
    if not start.strict:
        start = replace(start, tensors=named_as_here(start.tensors, own))
    theirs = start.tensors
    same = {name for name in own.keys() & theirs.keys() if own[name].shape == theirs[name].shape}
    different = sorted((own.keys() | theirs.keys()) - same)
    if start.strict and (wrong := mismatch(theirs, own)):
        raise UserError(
            f"start: {start.path}: the weights are of another model: {wrong}; "
            "strict: false in start.params loads what matches and lists the rest"
        )
    if not same - {"scale", "mean"}:
        raise UserError(f"start: {start.path}: nothing in it matches; expected the weights of a latent diffusion model (stage two)")
    for name in same:
        own[name].copy_(theirs[name])
    if "scale" in same:
        model.scale_by_std = False
    parts = {name: text for name in different if name in own and name in theirs and (text := _begin_part(model, name, own[name], start))}
    return _listed(start, len(same), parts, [name for name in different if name not in parts], own) if different else []


def named_as_here(theirs: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of conditioners to the model's names: a conditioner may have become one of several, or the only one, or may have
    another index. Each is assigned to the first whose entries have the same names and, except for the number of rows, shapes.
    """
    here, there = _conditions(own), _conditions(theirs)
    moved = {old: old for old in there if _alike(here.get(old, {}), there[old])}
    for old in [old for old in there if old not in moved]:
        free = (new for new in here if new not in moved.values() and _alike(here[new], there[old]))
        if (new := next(free, None)) is not None:
            moved[old] = new
    inside = {f"{old}{rest}": f"{moved[old]}{rest}" for old in moved for rest in there[old]}
    kept = {name: value for name, value in theirs.items() if name not in inside}
    return kept | {new: theirs[old] for old, new in inside.items()}


def _conditions(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Entries of each conditioner by prefix."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("conditioner."):
            part, rest = split_name(name.removeprefix("conditioner."))
            found.setdefault(f"conditioner.{part}", {})[rest] = value
    return found


def _alike(here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> bool:
    return here.keys() == there.keys() and all(here[name].shape[1:] == there[name].shape[1:] for name in here)


def _begin_part(model: LatentDiffusion, name: str, own: Tensor, start: StartingWeights) -> str:
    """Copy the part of an entry that has the same meaning in another shape; returns a description, or ""."""
    value = start.tensors[name]
    if name == "scale" and value.numel() == 1 and not model.scale_by_std:
        own.fill_(value.item())
        return "one number for all channels"
    part, _, inside = name.partition(".")
    if part == "network":
        return model.network.begin_from(inside, own, value)
    return model.conditioner.begin_from(inside, own, value, start.null_class) if part == "conditioner" else ""


def _listed(start: StartingWeights, same: int, parts: dict[str, str], rest: list[str], own: Mapping[str, Tensor]) -> list[str]:
    lines = [f"{same} of {len(own)} entries come from {start.path}"]
    lines += [f"in part: {name} ({text})" for name, text in parts.items()]
    kinds = {
        "as initialised, because they are missing": [name for name in rest if name in own and name not in start.tensors],
        "as initialised, because their shape differs": [name for name in rest if name in own and name in start.tensors],
        "not used": [name for name in rest if name not in own],
    }
    for title, names in kinds.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        lines += [f"{title}: {', '.join(names[:SHOWN])}{more}"] if names else []
    return lines
