"""Tokens that were computed elsewhere, such as CLIP embeddings of retrieved neighbours."""

from ldm.conditioning.base import Conditioner, Conditioning, Encode, narrow_tokens
from ldm.data.batch import Batch, Key
from ldm.ranges import integer, share


class GivenContext(Conditioner):
    """embedding `(B, N, width)` -> the same tokens as context; the null condition is zero.

    Args:
        width: of the tokens.
        uncond_prob: share of training samples that get the null condition.
    """

    def __init__(self, width: int, uncond_prob: float = 0.0) -> None:
        super().__init__()
        integer(width=width)
        share(uncond_prob=uncond_prob)
        self.context_channels, self.uncond_prob = width, uncond_prob
        self.keys = {"embedding": Key(shape=("any", width), null=0.0)}

    narrow = staticmethod(narrow_tokens)

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        return Conditioning(context=batch["embedding"])
