"""CompVis/latent-diffusion and taming-transformers, the public reference of the paper: the one door to its files."""

from typing import Any

from ldm.interop.compvis.checkpoint import read, read_state, state_of, write_state
from ldm.interop.compvis.names import Names, names_of
from ldm.interop.compvis.training import is_compvis, translate
from ldm.interop.compvis.weights import from_compvis, to_compvis


def ours(content: dict[str, Any], source: str) -> dict[str, Any]:
    """A YAML's content, translated if it is theirs."""
    return translate(content, source) if is_compvis(content) else content


__all__ = [
    "Names",
    "from_compvis",
    "is_compvis",
    "names_of",
    "ours",
    "read",
    "read_state",
    "state_of",
    "to_compvis",
    "translate",
    "write_state",
]
