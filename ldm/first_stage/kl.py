"""KL regularisation (Sec. 3.1, App. G): a slight pull of the latent towards a standard normal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ldm.diffusion.process import normal_kl
from ldm.first_stage.base import FirstStage, Reconstruction
from ldm.networks.autoencoder import Decoder, Encoder
from ldm.networks.base import NARROW
from ldm.ranges import integer, integers, number


@dataclass(frozen=True)
class DiagonalGaussian:
    """q(z|x) = N(mean, exp(log_variance)), both `(B, c, h, w)`."""

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> "DiagonalGaussian":
        """Split `(B, 2c, h, w)`; the log variance is clamped to [-30, 20]."""
        mean, log_variance = moments.chunk(2, dim=1)
        return cls(mean, log_variance.clamp(-30.0, 20.0))

    def sample(self, noise: Tensor) -> Tensor:
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def kl(self) -> Tensor:
        """KL(q || N(0, 1)) in nats, summed over the latent: `(B,)` float32."""
        return self._kl().flatten(1).sum(dim=1)

    def kl_of_channels(self) -> Tensor:
        """KL(q || N(0, 1)) in nats of every channel, summed over its positions: `(B, c)` float32."""
        return self._kl().flatten(2).sum(dim=2)

    def _kl(self) -> Tensor:
        mean, log_variance = self.mean.float(), self.log_variance.float()
        zero = torch.zeros_like(mean)
        return normal_kl(mean, log_variance, zero, zero)


class KLAutoencoder(FirstStage):
    """KL-regularised autoencoder.

    Args:
        channels: c of the latent (Tab. 8).
        width, width_mult, blocks_per_level, attention_at, middle_attention, dropout, norm_groups: see `Encoder`; f = stem * 2^(levels-1).
        image_channels: of the image.
        stem: see `Encoder`.
        features: channels between the encoder or decoder and the 1x1 convolutions of the latent; `channels` if None.
        initial_log_variance: starting value of the posterior's log variance. With a low one the decoder gets nearly noiseless
            latents from the first step, which helps with small compute budgets.
    """

    stochastic = True
    decoder_parts = ("decoder.", "from_latent.")

    def __init__(
        self,
        channels: int,
        width: int,
        width_mult: Sequence[int],
        blocks_per_level: int = 2,
        attention_at: Sequence[int] = (),
        *,
        middle_attention: bool = True,
        image_channels: int = 3,
        stem: int = 1,
        dropout: float = 0.0,
        features: int | None = None,
        initial_log_variance: float = 0.0,
        norm_groups: int = 32,
    ) -> None:
        super().__init__()
        integer(channels=channels, image_channels=image_channels, features=features, stem=stem)
        integers(width_mult=width_mult)
        number(-30, 20, initial_log_variance=initial_log_variance)
        self.factor = stem * 2 ** (len(width_mult) - 1)
        self.channels, self.image_channels = channels, image_channels
        shape = (width, width_mult, blocks_per_level, attention_at, middle_attention, stem, dropout, norm_groups)
        features = features or channels
        self.encoder = Encoder(image_channels, 2 * features, *shape)
        self.decoder = Decoder(features, image_channels, *shape)
        self.to_moments = nn.Conv2d(2 * features, 2 * channels, 1)
        self.from_latent = nn.Conv2d(channels, features, 1)
        if initial_log_variance:
            nn.init.constant_(self.to_moments.bias[channels:], initial_log_variance)  # type: ignore[index]

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        """q(z|x) for images `(B, C, H, W)`."""
        return DiagonalGaussian.from_moments(self.to_moments(self.encoder(x)))

    def encode(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        q = self.posterior(x)
        return q.mean if noise is None else q.sample(noise)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(self.from_latent(z))

    def reconstruct(self, x: Tensor, noise: Tensor | None = None) -> Reconstruction:
        q = self.posterior(x)
        z = q.mean if noise is None else q.sample(noise)
        return Reconstruction(self.decode(z), z, q.kl(), posterior=q)

    @staticmethod
    def narrow(params: dict[str, Any]) -> None:
        params["width"] = min(params["width"], NARROW)

    def last_layer(self) -> Tensor:
        return self.decoder.conv_out.weight
