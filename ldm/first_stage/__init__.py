"""Perceptual compression (Sec. 3.1): autoencoders with a KL or VQ regularised latent space, and their loss."""

from ldm.first_stage.base import FirstStage, Reconstruction
from ldm.first_stage.diffusers import DiffusersAutoencoder
from ldm.first_stage.health import Health, HealthMeter
from ldm.first_stage.identity import IdentityFirstStage
from ldm.first_stage.kl import KLAutoencoder
from ldm.first_stage.loss import AutoencoderLoss, PixelLoss
from ldm.first_stage.perceptual import LPIPS
from ldm.first_stage.vq import VQAutoencoder

__all__ = [
    "LPIPS",
    "AutoencoderLoss",
    "DiffusersAutoencoder",
    "FirstStage",
    "Health",
    "HealthMeter",
    "IdentityFirstStage",
    "KLAutoencoder",
    "PixelLoss",
    "Reconstruction",
    "VQAutoencoder",
]
