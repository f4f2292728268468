"""The time-conditional UNet eps_theta(z_t, t, tau_theta(y)) of Sec. 3.2-3.3, sizes as in Tables 12-15."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ldm.networks.base import NARROW, Network, common_channels, common_classes
from ldm.networks.levels import check_levels
from ldm.nn.attention import SelfAttention2d, SpatialTransformer
from ldm.nn.conv import Downsample, ResBlock, Upsample, conv3, group_norm
from ldm.nn.embedding import timestep_embedding
from ldm.ranges import integer, share


class UNetBlock(nn.Module):
    """A residual block and, if its level has attention, an attention block."""

    def __init__(self, res: ResBlock, attention: nn.Module | None, checkpointing: bool) -> None:
        super().__init__()
        self.res, self.attention, self.checkpointing = res, attention, checkpointing

    def forward(self, h: Tensor, emb: Tensor, context: Tensor | None) -> Tensor:
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(self._forward, h, emb, context, use_reentrant=False)  # type: ignore[no-any-return]
        return self._forward(h, emb, context)

    def _forward(self, h: Tensor, emb: Tensor, context: Tensor | None) -> Tensor:
        h = self.res(h, emb)
        if isinstance(self.attention, SpatialTransformer):
            return self.attention(h, context)
        return h if self.attention is None else self.attention(h)


class DownLevel(nn.Module):
    """Blocks of one resolution in the encoder half, then downsampling (except in the last level)."""

    def __init__(self, blocks: Sequence[UNetBlock], down: nn.Module | None) -> None:
        super().__init__()
        self.blocks, self.down = nn.ModuleList(blocks), down


class UpLevel(nn.Module):
    """Blocks of one resolution in the decoder half, each over [h, skip], then upsampling (except in the first level)."""

    def __init__(self, blocks: Sequence[UNetBlock], up: nn.Module | None) -> None:
        super().__init__()
        self.blocks, self.up = nn.ModuleList(blocks), up


class UNetBuilder:
    """Builds the parts of one UNet, or half of one, with common settings.

    Args: as in `UNet`; `emb_channels` is the width of the time embedding.

    Raises:
        ValueError: neither or both of `heads` and `head_channels`.
    """

    def __init__(
        self,
        emb_channels: int,
        *,
        heads: int | None = None,
        head_channels: int | None = None,
        qkv_by_head: bool = True,
        context_channels: int | None = None,
        transformer_depth: int = 1,
        dropout: float = 0.0,
        scale_shift: bool = False,
        resample: Literal["conv", "pool", "residual"] = "conv",
        checkpointing: bool = False,
    ) -> None:
        integer(heads=heads, head_channels=head_channels, context_channels=context_channels, transformer_depth=transformer_depth)
        share(dropout=dropout)
        if (heads is None) == (head_channels is None):
            raise ValueError("UNet needs exactly one of heads (their number) and head_channels (their width)")
        self.emb_channels, self.heads, self.head_channels, self.qkv_by_head = emb_channels, heads, head_channels, qkv_by_head
        self.context_channels, self.transformer_depth = context_channels, transformer_depth
        self.dropout, self.scale_shift, self.resample, self.checkpointing = dropout, scale_shift, resample, checkpointing

    def res(self, cin: int, cout: int, step: Literal["up", "down"] | None = None) -> ResBlock:
        """A residual block with time embedding."""
        return ResBlock(cin, cout, self.emb_channels, scale_shift=self.scale_shift, resample=step, dropout=self.dropout, zero=True)

    def heads_of(self, channels: int, heads: int | None = None) -> int:
        """Number of attention heads at a level.

        Raises:
            ValueError: it does not divide the channels.
        """
        heads, width = heads or self.heads, self.head_channels
        number = heads if heads is not None else max(1, channels // width)  # type: ignore[operator]
        # A spatial transformer projects to heads of equal width anyway; plain attention has to split its input channels.
        if self.context_channels is None and (channels % number or (width is not None and channels % width)):
            raise ValueError(f"UNet level of {channels} channels: heads={heads} head_channels={width} do not divide it")
        return number

    def attention(self, channels: int, heads: int | None = None) -> nn.Module:
        """Plain self-attention, or a spatial transformer if there is a context."""
        number = self.heads_of(channels, heads)
        if self.context_channels is None:
            return SelfAttention2d(channels, number, self.qkv_by_head)
        return SpatialTransformer(channels, number, channels // number, self.transformer_depth, self.context_channels)

    def block(self, cin: int, cout: int, attend: bool, heads: int | None = None) -> UNetBlock:
        """A residual block, and attention if its level has it."""
        return UNetBlock(self.res(cin, cout), self.attention(cout, heads) if attend else None, self.checkpointing)

    def join(self, channels: int, step: Literal["up", "down"]) -> nn.Module:
        """Down- or upsampling between two levels."""
        if self.resample == "residual":
            return self.res(channels, channels, step)
        make = Upsample if step == "up" else Downsample
        return make(channels, learned=self.resample == "conv")

    def middle(self, channels: int) -> nn.ModuleList:
        """Residual block, attention, residual block."""
        return nn.ModuleList([self.res(channels, channels), self.attention(channels), self.res(channels, channels)])

    def way_down(self, widths: Sequence[int], first: int, blocks: int, attention_at: Sequence[int]) -> tuple[nn.ModuleList, list[int]]:
        """The levels of the encoder half, and the widths of all their outputs (the skips); `first` is the width of conv_in."""
        skips, channels, levels = [first], first, nn.ModuleList()
        for i, width in enumerate(widths):
            here = []
            for _ in range(blocks):
                here.append(self.block(channels, width, 2**i in attention_at))
                channels = width
                skips.append(channels)
            last = i == len(widths) - 1
            if not last:
                skips.append(channels)
            levels.append(DownLevel(here, None if last else self.join(channels, "down")))
        return levels, skips


def narrow(params: dict[str, Any]) -> None:
    """Arguments of a narrow UNet, or half of one; the width is a multiple of the head width, so that divisibility is as at full width."""
    head = params.get("head_channels") or params.get("heads") or 1
    params["width"] = min(params["width"], head * max(1, NARROW // head))
    if params.get("context_channels"):
        params["context_channels"] = NARROW
    if "transformer_depth" in params:
        params["transformer_depth"] = 1


def time_mlp(width: int) -> nn.Sequential:
    """MLP from sinusoidal features of t to the time embedding, four times as wide."""
    return nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))


def step_between(module: nn.Module, h: Tensor, emb: Tensor) -> Tensor:
    """Run the down- or upsampling between two levels."""
    return module(h, emb) if isinstance(module, ResBlock) else module(h)  # type: ignore[no-any-return]


def descend(levels: nn.ModuleList, h: Tensor, emb: Tensor, context: Tensor | None) -> list[Tensor]:
    """Run the encoder half on the output of conv_in; returns every output, the deepest last."""
    skips = [h]
    for level in levels:
        for block in level.blocks:  # type: ignore[union-attr]
            skips.append(block(skips[-1], emb, context))
        if level.down is not None:
            skips.append(step_between(level.down, skips[-1], emb))  # type: ignore[arg-type]
    return skips


def cross_middle(middle: nn.ModuleList, h: Tensor, emb: Tensor, context: Tensor | None) -> Tensor:
    """Run the middle block."""
    res1, attention, res2 = middle
    h = res1(h, emb)
    h = attention(h, context) if isinstance(attention, SpatialTransformer) else attention(h)
    return res2(h, emb)  # type: ignore[no-any-return]


class UNet(Network):
    """network(z, t, context, vector) -> output of the same size as z.

    Args:
        in_channels: channels of z_t, plus those of any concatenated condition.
        out_channels: channels of the output.
        width: channels at full resolution; level i has `width * width_mult[i]`.
        width_mult: one entry per level; each level but the first halves the resolution.
        blocks_per_level: residual blocks per level (paper: depth 2); the decoder half has one more.
        attention_at: downsampling factors (1, 2, 4, ...) of the levels in which attention follows every block. A factor that no
            level has is allowed: in the (1, 4, 8) networks of Tab. 15 only the middle block has attention.
        heads: number of attention heads; or
        head_channels: channels per head, which sets the number of heads at every level.
        heads_up: another number of heads in the decoder half.
        qkv_by_head: channel layout of plain attention, see `attend_packed`.
        context_channels: width of the tokens tau_theta(y). With it, attention is a spatial transformer (Tab. 16);
            without it, plain self-attention.
        transformer_depth: transformer blocks per spatial transformer.
        vector_channels: width of a vector condition added to the time embedding.
        dropout: in the residual blocks.
        scale_shift: see `ResBlock`.
        resample: how levels are joined: "conv" strided and nearest + convolution, "pool" without convolution, "residual"
            residual blocks that resample (LSUN-Churches).
        checkpointing: recompute activations in the backward pass: less memory, about a third slower.

    Raises:
        ValueError: neither or both of `heads` and `head_channels`, or widths that heads do not divide.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int,
        width_mult: Sequence[int],
        blocks_per_level: int = 2,
        attention_at: Sequence[int] = (),
        *,
        heads: int | None = None,
        head_channels: int | None = None,
        heads_up: int | None = None,
        qkv_by_head: bool = True,
        context_channels: int | None = None,
        transformer_depth: int = 1,
        vector_channels: int | None = None,
        dropout: float = 0.0,
        scale_shift: bool = False,
        resample: Literal["conv", "pool", "residual"] = "conv",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        integer(in_channels=in_channels, out_channels=out_channels, heads_up=heads_up, vector_channels=vector_channels)
        check_levels(width, width_mult, blocks_per_level, attention_at)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.width, self.context_channels, self.vector_channels = width, context_channels, vector_channels
        self.multiple = 2 ** (len(width_mult) - 1)
        parts = UNetBuilder(
            4 * width,
            heads=heads,
            head_channels=head_channels,
            qkv_by_head=qkv_by_head,
            context_channels=context_channels,
            transformer_depth=transformer_depth,
            dropout=dropout,
            scale_shift=scale_shift,
            resample=resample,
            checkpointing=checkpointing,
        )
        self.time = time_mlp(width)
        self.vector = nn.Linear(vector_channels, 4 * width, bias=False) if vector_channels else None
        self.conv_in = conv3(in_channels, width)
        widths = [width * m for m in width_mult]
        self.down, skips = parts.way_down(widths, width, blocks_per_level, attention_at)
        channels = skips[-1]
        self.middle = parts.middle(channels)
        self.up = nn.ModuleList()
        for i, level_width in reversed(list(enumerate(widths))):
            blocks = []
            for _ in range(blocks_per_level + 1):
                blocks.append(parts.block(channels + skips.pop(), level_width, 2**i in attention_at, heads_up))
                channels = level_width
            self.up.append(UpLevel(blocks, parts.join(channels, "up") if i else None))
        self.norm_out = group_norm(channels)
        self.conv_out = conv3(channels, out_channels, zero=True)

    narrow = staticmethod(narrow)

    def begin_from(self, name: str, own: Tensor, value: Tensor) -> str:
        if name == "conv_in.weight":
            return common_channels(own, value)
        return common_classes(own, value) if name == "vector.weight" else ""

    def forward(self, z: Tensor, t: Tensor, context: Tensor | None = None, vector: Tensor | None = None) -> Tensor:
        """Predict from a noisy latent.

        Args:
            z: `(B, in_channels, h, w)`; h and w must be multiples of `multiple`.
            t: `(B,)` timesteps.
            context: `(B, N, context_channels)` tokens.
            vector: `(B, vector_channels)`.

        Returns:
            `(B, out_channels, h, w)`.

        Raises:
            ValueError: a size that is not a multiple of `multiple`, or a condition that the network was not built for.
        """
        self.check_input(z, context, vector)
        emb = self.time(timestep_embedding(t, self.width).to(self.conv_in.weight.dtype))
        if self.vector is not None and vector is not None:
            emb = emb + self.vector(vector)
        skips = descend(self.down, self.conv_in(z), emb, context)
        h = cross_middle(self.middle, skips[-1], emb, context)
        for level in self.up:
            for block in level.blocks:  # type: ignore[union-attr]
                h = block(torch.cat([h, skips.pop()], dim=1), emb, context)
            if level.up is not None:
                h = step_between(level.up, h, emb)  # type: ignore[arg-type]
        return self.conv_out(F.silu(self.norm_out(h)))
