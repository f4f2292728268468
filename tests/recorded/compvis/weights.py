"""Weights in and out under CompVis names: renaming only, so both directions are exact."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.interop.compvis.names import names_of
from ldm.interop.compvis.state import TRANSPOSED
from ldm.nn.weights import mismatch


def from_compvis(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a CompVis state dict of one part into our module, every key of it.

    Raises:
        UserError: missing or leftover keys, or other shapes; names the first.
    """
    own = to_compvis(module)
    if wrong := mismatch(state, own):
        raise UserError(f"checkpoint does not fit {type(module).__name__}: {wrong}")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(state[name])


def to_compvis(module: nn.Module) -> dict[str, Tensor]:
    """Our module's state dict under CompVis names, as views of it."""
    state = module.state_dict()
    return {theirs: state[ours].T if ours in TRANSPOSED else state[ours] for ours, theirs in names_of(module).items()}
