"""Weights of one part in and out under CompVis names."""

from collections.abc import Mapping

from torch import Tensor, nn

from ldm.interop.compvis.names import table_of
from ldm.interop.names import store, take


def from_compvis(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a CompVis state dict of one part into our module, every key of it.

    Raises:
        UserError: missing or leftover keys, or other shapes; names the first.
    """
    misfit = f"checkpoint does not fit {type(module).__name__}"
    module.load_state_dict(take(table_of(module), module.state_dict(), dict(state), misfit, everything=True))


def to_compvis(module: nn.Module) -> dict[str, Tensor]:
    """Our module's state dict under CompVis names, as views of it."""
    return store(table_of(module), module.state_dict())
