"""Attention (Sec. 3.3): plain self-attention on feature maps, cross-attention, and the spatial transformer (Tab. 16)."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ldm.nn.conv import group_norm
from ldm.ranges import integer

# Below this many scores per head, CPU training is faster with two matrix products than with the fused kernel, whose
# backward pass is slow there for short sequences (benchmarks/attention.py measures it).
SHORT = 64 * 64


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over `(B, heads, N, d)`; the length M of keys and values may differ from that of queries.

    `mask` is bool, broadcastable to `(B, heads, N, M)`; positions where it is false are not attended to.
    """
    if q.device.type == "cpu" and q.shape[-2] * k.shape[-2] <= SHORT and mask is None:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        return scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def attend_packed(qkv: Tensor, heads: int, qkv_by_head: bool = True) -> Tensor:
    """Self-attention of a fused projection `(B, 3 C, N)` -> `(B, C, N)`.

    Its channels are laid out as (head, q/k/v, d), or as (q/k/v, head, d) if `qkv_by_head` is false.
    """
    layout = "b (heads three d) n" if qkv_by_head else "b (three heads d) n"
    q, k, v = rearrange(qkv, f"{layout} -> three b heads n d", heads=heads, three=3)
    return rearrange(attend(q, k, v), "b heads n d -> b (heads d) n")


def split_heads(x: Tensor, heads: int) -> Tensor:
    """`(B, N, heads d)` -> `(B, heads, N, d)`."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """`(B, heads, N, d)` -> `(B, N, heads d)`."""
    return x.transpose(1, 2).flatten(2)


class SelfAttention2d(nn.Module):
    """Multi-head self-attention over the positions of a feature map, residual, `(B, C, h, w)` -> the same.

    The UNet's plain attention: one fused projection, with the layout of `attend_packed`.
    """

    def __init__(self, channels: int, heads: int, qkv_by_head: bool = True) -> None:
        super().__init__()
        integer(channels=channels, heads=heads)
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be split into {heads} attention heads")
        self.heads, self.qkv_by_head = heads, qkv_by_head
        self.norm = group_norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)  # (B, C, N)
        h = attend_packed(self.qkv(self.norm(tokens)), self.heads, self.qkv_by_head)
        return x + self.out(h).view_as(x)


class AttentionPool2d(nn.Module):
    """Pool a feature map to one vector: its mean, as an additional token, attends to all positions (as in CLIP).

    `(B, C, h, w)` -> `(B, out_channels)`.

    Args:
        size: h * w; positions are learned.
        channels, heads: of the attention.
        out_channels: width of the vector.
    """

    def __init__(self, size: int, channels: int, heads: int, out_channels: int) -> None:
        super().__init__()
        integer(size=size, channels=channels, heads=heads, out_channels=out_channels)
        self.heads = heads
        self.positions = nn.Parameter(torch.randn(channels, size + 1) / channels**0.5)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = nn.Conv1d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)
        tokens = torch.cat([tokens.mean(dim=2, keepdim=True), tokens], dim=2) + self.positions.to(x.dtype)
        return self.out(attend_packed(self.qkv(tokens), self.heads, qkv_by_head=False))[:, :, 0]


class SingleHeadAttention(nn.Module):
    """The autoencoder's attention: one head, separate 1x1 projections, residual, `(B, C, h, w)` -> the same."""

    def __init__(self, channels: int, groups: int = 32) -> None:
        super().__init__()
        integer(channels=channels)
        self.norm = group_norm(channels, 1e-6, groups)
        self.q, self.k, self.v, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (rearrange(f(h), "b c h w -> b 1 (h w) c") for f in (self.q, self.k, self.v))
        return x + self.out(rearrange(attend(q, k, v), "b 1 (h w) c -> b c h w", h=x.shape[2]))


class CrossAttention(nn.Module):
    """Attention(Q, K, V) of Sec. 3.3 with Q from `x` and K, V from `context`; self-attention without a context.

    Args:
        width: channels of `x`.
        heads, head_channels: inner width is their product.
        context_width: channels of the context; `width` without one.
    """

    def __init__(self, width: int, heads: int, head_channels: int, context_width: int | None = None) -> None:
        super().__init__()
        integer(width=width, heads=heads, head_channels=head_channels, context_width=context_width)
        inner = heads * head_channels
        self.heads = heads
        self.q = nn.Linear(width, inner, bias=False)
        self.k = nn.Linear(context_width or width, inner, bias=False)
        self.v = nn.Linear(context_width or width, inner, bias=False)
        self.out = nn.Linear(inner, width)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """x `(B, N, width)`, context `(B, M, context_width)`, mask bool `(B, M)` (true: attend) -> `(B, N, width)`."""
        source = x if context is None else context
        q, k, v = (split_heads(f(y), self.heads) for f, y in ((self.q, x), (self.k, source), (self.v, source)))
        return self.out(merge_heads(attend(q, k, v, None if mask is None else mask[:, None, None, :])))


class GatedFeedForward(nn.Module):
    """GEGLU: (value * gelu(gate)) W, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, 8 * width)  # value and gate, 4 * width each
        self.out = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.inner(x).chunk(2, dim=-1)
        return self.out(value * F.gelu(gate))


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention, gated MLP; each pre-LayerNorm with a residual.

    Table 16 lists the MLP before the cross-attention; the released code and its checkpoints have this order.
    Without a context the second attention attends to the tokens themselves.
    """

    def __init__(self, width: int, heads: int, head_channels: int, context_width: int | None) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention = CrossAttention(width, heads, head_channels)
        self.cross_attention = CrossAttention(width, heads, head_channels, context_width)
        self.feed_forward = GatedFeedForward(width)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        x = x + self.self_attention(self.norm1(x))
        x = x + self.cross_attention(self.norm2(x), context)
        return x + self.feed_forward(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Table 16: positions of a feature map as tokens of `depth` transformer blocks, residual; `(B, C, h, w)` -> same."""

    def __init__(self, channels: int, heads: int, head_channels: int, depth: int = 1, context_width: int | None = None) -> None:
        super().__init__()
        integer(channels=channels, heads=heads, head_channels=head_channels, depth=depth, context_width=context_width)
        inner = heads * head_channels
        self.norm = group_norm(channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, inner, 1)
        self.blocks = nn.ModuleList(TransformerBlock(inner, heads, head_channels, context_width) for _ in range(depth))
        self.proj_out = nn.Conv2d(inner, channels, 1)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        tokens = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        for block in self.blocks:
            tokens = block(tokens, context)
        return x + self.proj_out(rearrange(tokens, "b (h w) c -> b c h w", h=x.shape[2]))
