"""Tokens that were computed elsewhere, such as CLIP embeddings of retrieved neighbours."""

from collections.abc import Sequence

import torch

from ldm.conditioning.base import Conditioner, Conditioning, Encode
from ldm.data.batch import Batch
from ldm.ranges import integer, share


class GivenContext(Conditioner):
    """embedding `(B, N, width)` -> the context, as it is; the null condition is zero.

    Args:
        width: of the tokens.
        drop_rate: share of training samples that get the null condition.
    """

    reads = ("embedding",)

    def __init__(self, width: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        integer(width=width)
        share(drop_rate=drop_rate)
        self.context_channels, self.drop_rate = width, drop_rate

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        return Conditioning(context=batch["embedding"])

    def drop(self, batch: Batch, where: Sequence[bool]) -> Batch:
        x = batch["embedding"]
        gone = torch.as_tensor(where, device=x.device)[:, None, None]
        return {**batch, "embedding": torch.where(gone, torch.zeros_like(x), x)}
