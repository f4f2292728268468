"""A first stage: squares of 2x2 pixels become channels. Nothing in it is trained."""

import torch.nn.functional as F
from torch import Tensor

from ldm.first_stage import FirstStage


class Squares(FirstStage):
    factor = 2

    def __init__(self, image_channels: int = 1) -> None:
        super().__init__()
        self.image_channels, self.channels = image_channels, 4 * image_channels

    def encode(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        return F.pixel_unshuffle(x, 2)

    def decode(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(z, 2)
