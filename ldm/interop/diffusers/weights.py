"""Weights of a part under diffusers' names and in its layouts, and back."""

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ldm.interop.diffusers.names import table_of
from ldm.interop.leftovers import drop_bookkeeping, note_on, tensors_of
from ldm.interop.names import store, take

log = logging.getLogger(__name__)
# What older versions called the maps of attention without context.
FORMER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def to_diffusers(module: nn.Module) -> dict[str, Tensor]:
    """Our module's state dict as theirs."""
    return store(table_of(module), module.state_dict())


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
    left = {_current(name): value for name, value in tensors.items()}
    for note in [*notes, *note_on(drop_bookkeeping(left, averages=True))]:
        log.info("%s: %s", path, note)
    return take(table_of(module), module.state_dict(), left, f"{path} does not fit its config.json", everything=True)


def _current(name: str) -> str:
    head, _, leaf = name.rpartition(".")
    stem, _, last = head.rpartition(".")
    return f"{stem}.{FORMER[last]}.{leaf}" if last in FORMER and stem.rpartition(".")[0].endswith("attentions") else name
