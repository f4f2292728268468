"""VQ regularisation (Sec. 3.1): a vector quantiser that belongs to the decoder."""

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ldm.first_stage.base import FirstStage, Reconstruction
from ldm.networks.autoencoder import Decoder, Encoder
from ldm.networks.base import NARROW
from ldm.precision import exact
from ldm.ranges import integer, integers, number


class Codebook(nn.Module):
    """Nearest code by squared distance, with a straight-through gradient.

    Args:
        size: |Z|.
        channels: of a code.
        beta: weight between the two terms of the loss.
        legacy: apply beta to the codebook term, as in the code of all released models, instead of to the commitment term, as in
            the VQ-VAE paper.
    """

    def __init__(self, size: int, channels: int, beta: float = 0.25, legacy: bool = True) -> None:
        super().__init__()
        integer(codebook_size=size, channels=channels)
        number(0, beta=beta)
        self.beta, self.legacy = beta, legacy
        self.embedding = nn.Embedding(size, channels)
        nn.init.uniform_(self.embedding.weight, -1.0 / size, 1.0 / size)

    def codes(self, z: Tensor) -> Tensor:
        """`(B, c, h, w)` -> nearest codes `(B, h, w)`; in full float32, because lower precision confuses nearby codes."""
        with exact(z.device):
            flat = rearrange(z.float(), "b c h w -> (b h w) c")
            e = self.embedding.weight.float()
            distance = flat.square().sum(1, keepdim=True) + e.square().sum(1) - 2.0 * flat @ e.T
            return distance.argmin(dim=1).view(z.shape[0], *z.shape[2:])

    def lookup(self, codes: Tensor) -> Tensor:
        """`(B, h, w)` -> `(B, c, h, w)`."""
        return rearrange(self.embedding(codes), "b h w c -> b c h w")

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantised z with straight-through gradient `(B, c, h, w)`, loss `(B,)`, codes `(B, h, w)`."""
        codes = self.codes(z)
        z_q = self.lookup(codes)
        to_encoder = (z_q.detach() - z).float().square().flatten(1).mean(1)
        to_codebook = (z_q - z.detach()).float().square().flatten(1).mean(1)
        loss = to_encoder + self.beta * to_codebook if self.legacy else self.beta * to_encoder + to_codebook
        return z + (z_q - z).detach(), loss, codes


class VQAutoencoder(FirstStage):
    """VQ-regularised autoencoder; stage two works on its latents before quantisation.

    Args:
        channels: c of the latent (Tab. 8).
        codebook_size: |Z|.
        width, width_mult, blocks_per_level, attention_at, middle_attention, dropout, norm_groups: see `Encoder`.
        image_channels, stem: see `Encoder`.
        features: channels between the encoder or decoder and the 1x1 convolutions of the codes; `channels` if None.
        legacy: see `Codebook`.
    """

    decoder_parts = ("decoder.", "from_codes.")

    def __init__(
        self,
        channels: int,
        codebook_size: int,
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
        legacy: bool = True,
        norm_groups: int = 32,
    ) -> None:
        super().__init__()
        integer(channels=channels, image_channels=image_channels, features=features, stem=stem)
        integers(width_mult=width_mult)
        self.factor = stem * 2 ** (len(width_mult) - 1)
        self.channels, self.image_channels = channels, image_channels
        self.codebook_size: int = codebook_size
        shape = (width, width_mult, blocks_per_level, attention_at, middle_attention, stem, dropout, norm_groups)
        features = features or channels
        self.encoder = Encoder(image_channels, features, *shape)
        self.decoder = Decoder(features, image_channels, *shape)
        self.to_codes = nn.Conv2d(features, channels, 1)
        self.from_codes = nn.Conv2d(channels, features, 1)
        self.codebook = Codebook(codebook_size, channels, legacy=legacy)

    def encode(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        return self.to_codes(self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """As in `FirstStage`; gradients pass the quantiser straight through."""
        if z.requires_grad and torch.is_grad_enabled():
            return self.decoder(self.from_codes(self.codebook(z)[0]))
        return self.decode_codes(self.codebook.codes(z))

    def decode_codes(self, codes: Tensor) -> Tensor:
        """Codebook indices `(B, h, w)` -> image `(B, C, fh, fw)`."""
        return self.decoder(self.from_codes(self.codebook.lookup(codes)))

    def reconstruct(self, x: Tensor, noise: Tensor | None = None) -> Reconstruction:
        z = self.encode(x)
        z_q, loss, codes = self.codebook(z)
        return Reconstruction(self.decoder(self.from_codes(z_q)), z, loss, codes)

    @staticmethod
    def narrow(params: dict[str, Any]) -> None:
        params.update(width=min(params["width"], NARROW), codebook_size=min(params["codebook_size"], 64))

    def last_layer(self) -> Tensor:
        return self.decoder.conv_out.weight


def use_of_codes(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Share of the codebook in use and perplexity of the codes, from how often each was chosen `(|Z|,)`: two scalars."""
    p = counts.float() / counts.sum()
    return (counts > 0).float().mean(), torch.exp(-(p * p.clamp(min=1e-10).log()).sum())
