"""CompVis/latent-diffusion and taming-transformers: the public reference of the paper."""

from ldm.interop.compvis.names import Names, names_of
from ldm.interop.compvis.weights import from_compvis, to_compvis

__all__ = ["Names", "from_compvis", "names_of", "to_compvis"]
