"""The interface of a first stage: what stage two needs of it, and what its own training needs."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor, nn

from ldm.rng import StepRNG

if TYPE_CHECKING:
    from ldm.first_stage.kl import DiagonalGaussian


@dataclass(frozen=True)
class Reconstruction:
    """One pass through a first stage in training.

    Attributes:
        image: `(B, C, H, W)`, about [-1, 1].
        latent: `(B, c, h, w)`, as used by stage two before scaling.
        regularizer: `(B,)`, the KL divergence in nats per image, or the codebook loss.
        codes: `(B, h, w)` int64 codebook indices; None for KL.
        posterior: q(z|x); None for VQ.
    """

    image: Tensor
    latent: Tensor
    regularizer: Tensor
    codes: Tensor | None = None
    posterior: "DiagonalGaussian | None" = None


class FirstStage(nn.Module):
    """E and D of Sec. 3.1. Images are in [-1, 1].

    Attributes:
        factor: f, image size over latent size.
        channels: c, channels of the latent.
        image_channels: of the image.
        stochastic: whether `encode` uses noise.
        codebook_size: number of codes; None without a codebook.
        settings: constructor arguments by name, defaults included.
        checkpoint, sha256: path and hash of the weights that were loaded; empty if none were.
        latents: "scale" and "mean" of latents for stage two, as in `LatentDiffusion`, if the file of the weights states them.
        decoder_parts: prefixes of the parameters that decode.
    """

    factor: int
    channels: int
    image_channels: int
    stochastic: bool = False
    codebook_size: int | None = None
    checkpoint: str = ""
    sha256: str = ""
    latents: Mapping[str, Any] | None = None
    decoder_parts: tuple[str, ...] = ("decoder.",)
    settings: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind_partial(made, *args, **kwargs)  # copies are created without arguments
        bound.apply_defaults()
        made.__dict__["settings"] = dict(list(bound.arguments.items())[1:])
        return made

    def encode(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Image `(B, C, H, W)` -> latent `(B, c, H/f, W/f)`.

        KL: a posterior sample with `noise` (standard normal, of the latent's shape), the mode without.
        VQ: the latent before quantisation (Sec. 3.1: quantisation belongs to the decoder).
        """
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """Latent `(B, c, h, w)` -> image `(B, C, fh, fw)`. VQ quantises first."""
        raise NotImplementedError

    def reconstruct(self, x: Tensor, noise: Tensor | None = None) -> Reconstruction:
        """Encode, regularise and decode; returns all that the loss needs."""
        raise NotImplementedError

    @staticmethod
    def narrow(params: dict[str, Any]) -> None:
        """Change constructor arguments, in place, to those of a small one of the same kind, with which `--check` runs one step."""

    def last_layer(self) -> Tensor | None:
        """Weight whose gradients balance reconstruction and adversarial loss (App. G); None if nothing is trained."""
        return None

    def posterior_noise(self, x: Tensor, random: StepRNG) -> Tensor | None:
        """Noise for a posterior sample of images x `(B, C, H, W)`; None if `encode` does not use noise."""
        return random.normal("posterior", x.new_empty(len(x), *self.latent_shape(*x.shape[2:]))) if self.stochastic else None

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """`(c, height/f, width/f)`.

        Raises:
            ValueError: if f does not divide the size.
        """
        if height % self.factor or width % self.factor:
            raise ValueError(f"image size {height}x{width} is not a multiple of the first stage's factor f={self.factor}")
        return self.channels, height // self.factor, width // self.factor
