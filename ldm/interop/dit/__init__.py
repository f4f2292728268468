"""Checkpoints of DiT, SiT and LightningDiT, in and out. Which of them a file is, and what belongs to it, a config of ours says."""

from ldm.interop.dit.state import ADVICE, STATISTICS, fit_node, from_state, latent_statistics, states_of, to_state

__all__ = ["ADVICE", "STATISTICS", "fit_node", "from_state", "latent_statistics", "states_of", "to_state"]
