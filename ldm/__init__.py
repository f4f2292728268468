"""Latent diffusion models: train, sample and evaluate (Rombach et al., "High-Resolution Image Synthesis with LDMs")."""

__version__ = "0.1.0"
