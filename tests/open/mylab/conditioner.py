"""A condition: the hour of the day, which no data set of the project gives; hour 24 stands for no hour."""

import torch
from torch import nn

from ldm.conditioning import Conditioner, Conditioning, Encode
from ldm.data.batch import Batch, Key


class HourOfDay(Conditioner):
    keys = {"hour": Key(torch.int64, shape=(), null=24, low=0, high=23)}

    def __init__(self, width: int, uncond_prob: float = 0.0) -> None:
        super().__init__()
        self.vector_channels, self.uncond_prob = width, uncond_prob
        self.embedding = nn.Embedding(25, width)

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        return Conditioning(vector=self.embedding(batch["hour"]))
