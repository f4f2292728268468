"""The weights of one model as the beginning of another: fine-tuning."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ldm.conditioning import ClassEmbedding
from ldm.errors import UserError
from ldm.model import LatentDiffusion

SHOWN = 12  # names of a kind that are listed
CONDITION = re.compile(r"conditioner\.(?:parts\.\d+\.)*")


@dataclass(frozen=True)
class StartingWeights:
    """Weights to begin with.

    Attributes:
        tensors: by the names of `LatentDiffusion`, without those of its first stage.
        path: of their file, for messages.
        strict: every name and every shape has to fit; else what fits is taken, and the rest is listed.
        null_class: whether the last row of their table of classes stands for no class.
    """

    tensors: Mapping[str, Tensor]
    path: str = "the weights to begin with"
    strict: bool = True
    null_class: bool = True


def own_weights(model: LatentDiffusion) -> dict[str, Tensor]:
    """What a model trains or measures itself, by name: all but its first stage."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith("first_stage.")}


@torch.no_grad()
def begin_with(model: LatentDiffusion, start: StartingWeights) -> list[str]:
    """Copy weights into a model; returns lines on what did not fit, none if everything did.

    Where shapes differ, a model with more or fewer input channels gets those that both have, in their order, and zeros for the
    others, which so change nothing at first; tables of classes get the classes that both have, and no class for no class.

    Raises:
        UserError: something does not fit, and `start.strict`.
    """
    own = own_weights(model)
    if not start.strict:
        start = replace(start, tensors=named_as_here(start.tensors, own))
    theirs = start.tensors
    whole = {name for name in own.keys() & theirs.keys() if own[name].shape == theirs[name].shape}
    different = sorted((own.keys() | theirs.keys()) - whole)
    if start.strict and different:
        name = different[0]
        found, wanted = (tuple(t[name].shape) if name in t else "missing" for t in (theirs, own))
        raise UserError(
            f"start: {start.path}: the weights are of another model: {name} is {found}, expected {wanted}; "
            "strict: false in start.params loads what fits and lists the rest"
        )
    if not whole - {"scale", "mean"}:
        raise UserError(f"start: {start.path}: nothing in it fits; expected the weights of a latent diffusion model (stage two)")
    for name in whole:
        own[name].copy_(theirs[name])
    if "scale" in whole:
        model.scale_by_std = False
    parts = {name: text for name in different if name in own and name in theirs and (text := _begin_part(model, name, own[name], start))}
    return _listed(start, len(whole), parts, [name for name in different if name not in parts], own) if different else []


def named_as_here(theirs: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of conditions by the names that they have in our model: a condition may have become one of several, or the only one, or
    have another place among them. Each goes to the first that has entries of the same names and, but for their number of rows, shapes.
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
    """Entries of each condition, by the beginning of their names: "conditioner." of a single one, "conditioner.parts.0." of several."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if hit := CONDITION.match(name):
            found.setdefault(hit[0], {})[name[hit.end() :]] = value
    return found


def _alike(here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> bool:
    return here.keys() == there.keys() and all(here[name].shape[1:] == there[name].shape[1:] for name in here)


def _begin_part(model: LatentDiffusion, name: str, own: Tensor, start: StartingWeights) -> str:
    """Copy of an entry what has the same meaning in another shape; says what, or nothing."""
    value = start.tensors[name]
    if name == "scale" and value.numel() == 1 and not model.scale_by_std:
        own.fill_(value.item())
        return "one number for all channels"
    if name == "network.conv_in.weight":
        common = min(own.shape[1], value.shape[1])
        if own[:, :common].shape != value[:, :common].shape:
            return ""
        own.zero_()[:, :common].copy_(value[:, :common])
        return f"{common} of {own.shape[1]} input channels, the others at zero" if own.shape[1] > common else f"{common} input channels"
    if name == "network.vector.weight" and len(own) == len(value):
        common = min(own.shape[1], value.shape[1])
        own[:, :common].copy_(value[:, :common])
        return f"{common} of {own.shape[1]} classes"
    null = {f"{prefix}.embedding.weight": table.null_class for prefix, table in _class_tables(model)}
    if name not in null or own.shape[1:] != value.shape[1:]:
        return ""
    common = min(len(own) - null[name], len(value) - start.null_class)
    own[:common].copy_(value[:common])
    if null[name] and start.null_class:
        own[-1].copy_(value[-1])
    return f"{common} of {len(own) - null[name]} classes"


def _class_tables(model: LatentDiffusion) -> list[tuple[str, ClassEmbedding]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, ClassEmbedding)]


def _listed(start: StartingWeights, whole: int, parts: dict[str, str], rest: list[str], own: Mapping[str, Tensor]) -> list[str]:
    lines = [f"{whole} of {len(own)} entries come from {start.path}"]
    lines += [f"in part: {name} ({text})" for name, text in parts.items()]
    kinds = {
        "as initialised, because they are not there": [name for name in rest if name in own and name not in start.tensors],
        "as initialised, because they have another shape": [name for name in rest if name in own and name in start.tensors],
        "there, but not used": [name for name in rest if name not in own],
    }
    for title, names in kinds.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        lines += [f"{title}: {', '.join(names[:SHOWN])}{more}"] if names else []
    return lines
