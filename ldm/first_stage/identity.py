"""No compression: LDM-1, the pixel-space baseline of Sec. 4.1."""

from torch import Tensor

from ldm.first_stage.base import FirstStage
from ldm.ranges import integer


class IdentityFirstStage(FirstStage):
    """The latent is the image; f = 1.

    Args:
        channels: of the image.
    """

    factor = 1

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        integer(channels=channels)
        self.channels = self.image_channels = channels

    def encode(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z
