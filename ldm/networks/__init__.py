"""The networks: denoising UNet, autoencoder halves, patch discriminator."""

from ldm.networks.autoencoder import Decoder, Encoder
from ldm.networks.discriminator import PatchDiscriminator
from ldm.networks.unet import UNet

__all__ = ["Decoder", "Encoder", "PatchDiscriminator", "UNet"]
