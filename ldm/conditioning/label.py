"""Class labels: one token per image for cross-attention (App. E.2.1), or a vector added to the time embedding."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.conditioning.base import Conditioner, Conditioning, Encode, narrow_tokens
from ldm.data.batch import Batch, Key
from ldm.ranges import integer, share


class ClassEmbedding(Conditioner):
    """label `(B,)` -> one learned token `(B, 1, width)`.

    Args:
        num_classes: number of classes without the null class for guidance, which has index `num_classes`; "data" in a config: as the
            training set has them.
        width: of the token (512 in Tab. 13 and 15).
        uncond_prob: share of training samples that get the null class.
        null_class: false for released models that were not trained for guidance and do not have it.

    Raises:
        ValueError: `uncond_prob` without a null class.
    """

    def __init__(self, num_classes: int, width: int, uncond_prob: float = 0.0, null_class: bool = True) -> None:
        super().__init__()
        integer(num_classes=num_classes, width=width)
        share(uncond_prob=uncond_prob)
        if uncond_prob and not null_class:
            raise ValueError(f"{type(self).__name__}: uncond_prob needs the null class")
        self.num_classes, self.uncond_prob, self.null_class = num_classes, uncond_prob, null_class
        self.keys = {"label": Key(torch.int64, (), num_classes if null_class else None, 0, num_classes - 1)}
        self.context_channels = width
        self.embedding = nn.Embedding(num_classes + int(null_class), width)

    narrow = staticmethod(narrow_tokens)

    @staticmethod
    def from_data(params: dict[str, Any], data: Any) -> None:
        """See `ldm.check.from_data`."""
        params["num_classes"] = data.number_of_classes("label")

    def begin_from(self, name: str, own: Tensor, value: Tensor, null: bool) -> str:
        if own.shape[1:] != value.shape[1:]:
            return ""
        common = min(self.num_classes, len(value) - null)
        own[:common].copy_(value[:common])
        if self.null_class and null:
            own[-1].copy_(value[-1])
        return f"{common} of {self.num_classes} classes"

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        return Conditioning(context=self.embedding(batch["label"])[:, None])


class ClassVector(ClassEmbedding):
    """label `(B,)` -> a learned vector `(B, width)` added to the time embedding, as in DiT (Peebles and Xie, 2023, Sec. 3.2).

    Args: as in `ClassEmbedding`; `width` is that of the network.
    """

    def __init__(self, num_classes: int, width: int, uncond_prob: float = 0.0, null_class: bool = True) -> None:
        super().__init__(num_classes, width, uncond_prob, null_class)
        self.context_channels, self.vector_channels = None, width
        nn.init.normal_(self.embedding.weight, std=0.02)

    narrow = staticmethod(Conditioner.narrow)  # as wide as the network's vector_channels

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        return Conditioning(vector=self.embedding(batch["label"]))


class LabelVector(Conditioner):
    """label `(B,)` -> one-hot vector `(B, num_classes)`, which the network maps and adds to its time embedding.

    Args:
        num_classes: number of classes; "data" in a config: as the training set has them. The null condition is the zero vector.
        uncond_prob: share of training samples that get the null condition.
    """

    from_data = staticmethod(ClassEmbedding.from_data)

    def __init__(self, num_classes: int, uncond_prob: float = 0.0) -> None:
        super().__init__()
        integer(num_classes=num_classes)
        share(uncond_prob=uncond_prob)
        self.num_classes, self.uncond_prob = num_classes, uncond_prob
        self.keys = {"label": Key(torch.int64, (), num_classes, 0, num_classes - 1)}
        self.vector_channels = num_classes

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        return Conditioning(vector=F.one_hot(batch["label"], self.num_classes + 1)[:, : self.num_classes].float())
