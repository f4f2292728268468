"""A number as a condition: a column of one's own metadata."""

import torch
from torch import Tensor, nn

from ldm.conditioning.base import Conditioner, Conditioning, Encode
from ldm.data.batch import Batch, Key
from ldm.nn.embedding import timestep_embedding
from ldm.ranges import integer, share

STEPS = 1000.0  # the range is embedded like so many timesteps


class NumberVector(Conditioner):
    """number `(B,)` -> a vector `(B, width)` added to the time embedding; the null condition is a learned vector, given as NaN.

    Args:
        key: batch key of the number, such as a column of `metadata.jsonl`.
        low, high: smallest and largest value.
        width: of the vector.
        uncond_prob: share of training samples that get the null condition.

    Raises:
        ValueError: `low` is not below `high`.
    """

    def __init__(self, key: str, low: float, high: float, width: int, uncond_prob: float = 0.0) -> None:
        super().__init__()
        integer(2, width=width)
        share(uncond_prob=uncond_prob)
        if not low < high:
            raise ValueError(f"NumberVector: low {low:g} must be below high {high:g}")
        self.key, self.low, self.high, self.uncond_prob = key, low, high, uncond_prob
        self.keys = {key: Key(shape=(), null=float("nan"), low=low, high=high)}
        self.vector_channels = width
        self.mapping = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.unknown = nn.Parameter(torch.zeros(width))

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        value: Tensor = batch[self.key].float()
        none = value.isnan()
        place = STEPS * (value.masked_fill(none, self.low) - self.low) / (self.high - self.low)
        vector = self.mapping(timestep_embedding(place, self.unknown.numel()).to(self.unknown.dtype))
        return Conditioning(vector=torch.where(none[:, None], self.unknown, vector))
