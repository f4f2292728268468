"""Text encoded by the paper's transformer tau_theta (Sec. 4.3.1, Tab. 17)."""

from collections.abc import Sequence

from ldm.conditioning.base import Conditioning, Encode, TextConditioner, narrow_transformer
from ldm.conditioning.tokenizers import Tokenizer
from ldm.data.batch import Batch
from ldm.errors import MissingFile
from ldm.nn.transformer import TokenTransformer
from ldm.ranges import share


class TextTransformer(TextConditioner):
    """caption (B strings) -> tokens `(B, length, width)`, trained together with the network; the null caption is "".

    Args:
        tokenizer: captions to ids.
        length: every caption is padded or truncated to this many tokens.
        width, depth, heads, head_channels: of the transformer.
        uncond_prob: share of training samples whose caption becomes "".
        logit_head: see `TokenTransformer`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        length: int,
        width: int,
        depth: int,
        heads: int = 8,
        head_channels: int = 64,
        uncond_prob: float = 0.0,
        logit_head: bool = False,
    ) -> None:
        super().__init__()
        share(uncond_prob=uncond_prob)
        self.tokenizer, self.length, self.uncond_prob = tokenizer, length, uncond_prob
        self.context_channels = width
        self.transformer = TokenTransformer(tokenizer.vocabulary_size, length, width, depth, heads, head_channels, logit_head)

    narrow = staticmethod(narrow_transformer)

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        ids = self.tokenizer(batch["caption"], self.length)
        return Conditioning(context=self.transformer(ids.to(self.transformer.tokens.weight.device)))

    def count(self, caption: str) -> int:
        return self.tokenizer.count(caption)

    def unknown(self, caption: str) -> list[str]:
        return self.tokenizer.unknown(caption)

    def words(self) -> Sequence[str]:
        return self.tokenizer.words

    def missing(self) -> list[MissingFile]:
        return self.tokenizer.missing()

    def load(self) -> None:
        self.tokenizer([""], 1)
