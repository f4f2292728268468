"""CompVis/latent-diffusion and taming-transformers, the public reference of the paper. The rest of the project imports from here."""

from ldm.interop.compvis.autoencoder import first_stage_in
from ldm.interop.compvis.checkpoint import read, read_state, state_of, write_state
from ldm.interop.compvis.names import names_of
from ldm.interop.compvis.shapes import node_of
from ldm.interop.compvis.training import is_compvis, translate

WORDS = (
    "unet_config",
    "first_stage_config",
    "cond_stage_config",
    "ddconfig",
    "lossconfig",
    "scheduler_config",
    "base_learning_rate",
    "lightning",
)

__all__ = ["WORDS", "first_stage_in", "is_compvis", "names_of", "node_of", "read", "read_state", "state_of", "translate", "write_state"]
