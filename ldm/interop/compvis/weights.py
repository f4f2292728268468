"""Weights in and out under CompVis names: renaming only, so both directions are exact."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.interop.compvis.names import names_of

TRANSPOSED = ("vector.weight",)  # their label embedding (classes, width) is our linear map of one-hot vectors


def from_compvis(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a CompVis state dict of one part into our module, every key of it.

    Raises:
        UserError: missing or leftover keys, or other shapes; names the first.
    """
    names = names_of(module)
    missing, extra = sorted(set(names.values()) - state.keys()), sorted(state.keys() - set(names.values()))
    if missing or extra:
        raise UserError(f"checkpoint does not fit {type(module).__name__}: missing {missing[:3]}, left over {extra[:3]}")
    own = module.state_dict()
    with torch.no_grad():
        for ours, theirs in names.items():
            value = state[theirs].T if ours in TRANSPOSED else state[theirs]
            if own[ours].shape != value.shape:
                raise UserError(f"checkpoint does not fit: {theirs} is {tuple(value.shape)}, expected {tuple(own[ours].shape)}")
            own[ours].copy_(value)


def to_compvis(module: nn.Module) -> dict[str, Tensor]:
    """Our module's state dict under CompVis names."""
    state = module.state_dict()
    return {theirs: state[ours].T if ours in TRANSPOSED else state[ours] for ours, theirs in names_of(module).items()}
