"""A denoising network: a few convolutions that are told the time and one vector."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.networks import Network


class ConvNet(Network):
    def __init__(self, in_channels: int, out_channels: int, width: int = 32, vector_channels: int | None = None) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.vector_channels = in_channels, out_channels, vector_channels
        self.told = nn.Linear(1 + (vector_channels or 0), width)
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, z: Tensor, t: Tensor, context: Tensor | None = None, vector: Tensor | None = None) -> Tensor:
        self.check_input(z, context, vector)
        told = t[:, None].float() / 1000.0
        told = self.told(told if vector is None else torch.cat([told, vector], dim=1))
        h = F.silu(self.first(z) + told[:, :, None, None])
        return self.last(F.silu(h + self.middle(h)))
