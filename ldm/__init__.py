"""Latent diffusion models: train, sample and evaluate (Rombach et al., "High-Resolution Image Synthesis with LDMs")."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ldm.pipeline import load

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":  # imported at the first use, so that `import ldm` is cheap
        from ldm.pipeline import load

        return load
    raise AttributeError(f"module 'ldm' has no attribute {name!r}")
