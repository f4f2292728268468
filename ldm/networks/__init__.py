"""The networks: denoising UNet and transformer, classifier on noisy latents, autoencoder halves, patch discriminator."""

from ldm.networks.autoencoder import Decoder, Encoder
from ldm.networks.base import Network
from ldm.networks.classifier import NoisyClassifier
from ldm.networks.discriminator import PatchDiscriminator
from ldm.networks.dit import DiT
from ldm.networks.unet import UNet

__all__ = ["Decoder", "DiT", "Encoder", "Network", "NoisyClassifier", "PatchDiscriminator", "UNet"]
