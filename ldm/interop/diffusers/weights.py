"""Convert weights to and from diffusers' names: values are moved, never computed, so both directions are exact."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.interop.diffusers.names import Pair, pairs_of
from ldm.interop.leftovers import drop_bookkeeping, tensors_of, told
from ldm.nn.weights import mismatch

log = logging.getLogger(__name__)
MAPS = ("to_q", "to_k", "to_v")
# What older versions called the maps of attention without context.
FORMER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def to_diffusers(module: nn.Module) -> dict[str, Tensor]:
    """Our module's state dict under diffusers' names and in its layouts."""
    pairs, made = pairs_of(module), {}
    for key, value in module.state_dict().items():
        prefix, _, leaf = key.rpartition(".")
        for name, part in _split(pairs[prefix], leaf, value).items():
            made[name] = part
    return made


def from_diffusers(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """A diffusers state dict under our names; every key of it is used.

    Args:
        module: has the names and shapes; its weights are not touched, so it may be on the meta device.
        state: of one part.
        path: of its file, for messages.

    Raises:
        UserError: missing or leftover keys, or other shapes; names the first.
    """
    tensors, notes = tensors_of(state, str(path))
    given = {_current(name): value for name, value in tensors.items()}
    wanted = module.state_dict()
    pairs = pairs_of(module)
    sources = {key: _split(pairs[key.rpartition(".")[0]], key.rpartition(".")[2], value) for key, value in wanted.items()}
    expected = {name: value for found in sources.values() for name, value in found.items()}
    left = {name: value for name, value in given.items() if name not in expected}
    for note in [*notes, *told(drop_bookkeeping(left, averages=True))]:
        log.info("%s: %s", path, note)
    found = left | {name: _flat_as(value, expected[name]) for name, value in given.items() if name in expected}
    if wrong := mismatch(found, expected):
        raise UserError(f"{path} does not fit its config.json: {wrong}")
    return {key: _merge(pairs[key.rpartition(".")[0]], [found[name] for name in sources[key]], wanted[key]) for key in wanted}


def _current(name: str) -> str:
    head, _, leaf = name.rpartition(".")
    stem, _, last = head.rpartition(".")
    return f"{stem}.{FORMER[last]}.{leaf}" if last in FORMER and stem.rpartition(".")[0].endswith("attentions") else name


def _split(pair: Pair, leaf: str, value: Tensor) -> dict[str, Tensor]:
    """Our entry -> their entries."""
    if pair.layout == "same":
        return {f"{pair.theirs}.{leaf}": value}
    flat = value.flatten(1) if leaf == "weight" else value  # (out, in) or (out,)
    if pair.layout == "linear":
        return {f"{pair.theirs}.{leaf}": flat}
    maps = flat.unflatten(0, (pair.heads, 3, -1)).unbind(1) if pair.heads_first else flat.unflatten(0, (3, pair.heads, -1))
    return {f"{pair.theirs}{name}.{leaf}": part.flatten(0, 1) for name, part in zip(MAPS, maps, strict=True)}  # rows (head, d)


def _flat_as(value: Tensor, expected: Tensor) -> Tensor:
    """A linear map, where it may be stored as a convolution of 1x1."""
    return value.flatten(1) if expected.ndim == 2 and value.ndim > 2 else value


def _merge(pair: Pair, values: list[Tensor], wanted: Tensor) -> Tensor:
    """Their entries -> our entry, of the shape of `wanted`."""
    if pair.layout == "fused":
        maps = [value.unflatten(0, (pair.heads, -1)) for value in values]  # rows (head, d)
        return torch.stack(maps, dim=1 if pair.heads_first else 0).reshape(wanted.shape)
    return values[0].reshape(wanted.shape)
