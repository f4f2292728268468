"""Autoencoders that only diffusers has the networks of: DC-AE and the tiny autoencoders."""

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.first_stage.base import FirstStage, Reconstruction

INSTALL = "pip install diffusers"
KINDS = ("AutoencoderDC", "AutoencoderTiny")


class DiffusersAutoencoder(FirstStage):
    """A deterministic autoencoder of the optional package diffusers, without regularization.

    Args:
        kind: class in diffusers.
        settings: its constructor arguments; those it does not take are ignored.

    Raises:
        UserError: another class, diffusers is not installed, or the class does not take these settings.
    """

    decoder_parts = ("net.decoder.",)

    def __init__(self, kind: Literal["AutoencoderDC", "AutoencoderTiny"], settings: Mapping[str, Any]) -> None:
        super().__init__()
        if kind not in KINDS:  # a file of a stranger may name any class here
            raise UserError(f"kind: expected {' or '.join(KINDS)}, got {kind!r}")
        try:
            import diffusers
        except ImportError as error:
            raise UserError(f"{kind} is a network of the package diffusers, which is not installed: {INSTALL}") from error
        network = getattr(diffusers, kind)
        known = inspect.signature(network.__init__).parameters
        try:
            self.net: nn.Module = network(**{key: value for key, value in settings.items() if key in known})
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            raise UserError(f"diffusers' {kind} does not take these settings: {error}") from error
        config: Any = self.net.config
        self.factor = 2 ** (len(config.encoder_block_out_channels) - 1)
        self.channels, self.image_channels = int(config.latent_channels), int(config.in_channels)

    def encode(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        return self.net.encode(x, return_dict=False)[0]  # type: ignore[operator]

    def decode(self, z: Tensor) -> Tensor:
        return self.net.decode(z, return_dict=False)[0]  # type: ignore[operator]

    def reconstruct(self, x: Tensor, noise: Tensor | None = None) -> Reconstruction:
        z = self.encode(x)
        return Reconstruction(self.decode(z), z, torch.zeros(len(x), device=x.device))

    def last_layer(self) -> Tensor:
        return [p for p in self.net.decoder.parameters() if p.ndim == 4][-1]  # type: ignore[union-attr,operator]
