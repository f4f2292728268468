"""Class labels through cross-attention (App. E.2.1): one token per image."""

from collections.abc import Sequence

import torch
from torch import nn

from ldm.conditioning.base import Conditioner, Conditioning, Encode
from ldm.data.batch import Batch


class ClassEmbedding(Conditioner):
    """label `(B,)` -> one learned token `(B, 1, width)`.

    Args:
        num_classes: real classes; the null class for guidance is one more, with index `num_classes`.
        width: of the token (512 in Tab. 13 and 15).
        drop_rate: share of training samples that get the null class.
        null_class: released models that were never trained for guidance lack it.

    Raises:
        ValueError: a drop rate without a null class.
    """

    reads = ("label",)

    def __init__(self, num_classes: int, width: int, drop_rate: float = 0.0, null_class: bool = True) -> None:
        super().__init__()
        if drop_rate and not null_class:
            raise ValueError("ClassEmbedding: drop_rate needs the null class")
        self.num_classes, self.drop_rate, self.null_class = num_classes, drop_rate, null_class
        self.context_channels = width
        self.embedding = nn.Embedding(num_classes + int(null_class), width)

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        return Conditioning(context=self.embedding(batch["label"])[:, None])

    def drop(self, batch: Batch, where: Sequence[bool]) -> Batch:
        if not self.null_class:
            raise ValueError("this model has no null class and cannot be guided: sample with --scale 1")
        label = batch["label"]
        dropped = torch.as_tensor(where, device=label.device)
        return {**batch, "label": torch.where(dropped, torch.full_like(label, self.num_classes), label)}
