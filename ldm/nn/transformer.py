"""The paper's own token encoder tau_theta (Tab. 17): a plain pre-norm transformer over text or layout tokens."""

import torch
from torch import Tensor, nn

from ldm.nn.attention import CrossAttention
from ldm.ranges import integer


class EncoderBlock(nn.Module):
    """Self-attention and a GELU MLP four times as wide, each pre-LayerNorm with a residual."""

    def __init__(self, width: int, heads: int, head_channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CrossAttention(width, heads, head_channels)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TokenTransformer(nn.Module):
    """Tokens with learned absolute positions through `depth` blocks; no padding mask, as in the paper's code.

    Args:
        vocabulary: number of token ids.
        length: longest sequence.
        width, depth: as in Tab. 17.
        heads, head_channels: 8 x 64 in released models, whatever the width.
        logit_head: keep the unused language-model head that released checkpoints contain.
    """

    def __init__(
        self, vocabulary: int, length: int, width: int, depth: int, heads: int = 8, head_channels: int = 64, logit_head: bool = False
    ) -> None:
        super().__init__()
        integer(vocabulary=vocabulary, length=length, width=width, depth=depth, heads=heads, head_channels=head_channels)
        self.width, self.length = width, length
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = nn.ModuleList(EncoderBlock(width, heads, head_channels) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, vocabulary).requires_grad_(False) if logit_head else None

    def forward(self, ids: Tensor) -> Tensor:
        """ids `(B, N)` int64 -> `(B, N, width)`."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
