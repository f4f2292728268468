"""Residual block, up- and downsampling: one family for the UNet and for the autoencoder."""

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ldm.ranges import integer, share

Resample = Literal["up", "down"]


def group_norm(channels: int, eps: float = 1e-5, groups: int = 32) -> nn.GroupNorm:
    """`groups` wherever they divide the channels, else the largest common divisor. UNet: eps 1e-5; autoencoder: 1e-6."""
    return nn.GroupNorm(math.gcd(groups, channels), channels, eps=eps)


def conv3(in_channels: int, out_channels: int, zero: bool = False) -> nn.Conv2d:
    """3x3 convolution that keeps the size; `zero` initialises it to zero, so that a residual block starts as the identity."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    if zero:
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class Upsample(nn.Module):
    """Nearest-neighbour x2, then a 3x3 convolution unless `learned` is false: `(B, C, h, w)` -> `(B, C, 2h, 2w)`."""

    def __init__(self, channels: int, learned: bool = True) -> None:
        super().__init__()
        integer(channels=channels)
        self.conv = conv3(channels, channels) if learned else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Downsample(nn.Module):
    """Stride-2 3x3 convolution, or average pooling when not `learned`: `(B, C, h, w)` -> `(B, C, h/2, w/2)`.

    The UNet pads symmetrically; the autoencoder pads right and bottom only. Existing checkpoints rely on both.
    """

    def __init__(self, channels: int, learned: bool = True, symmetric: bool = True) -> None:
        super().__init__()
        integer(channels=channels)
        self.symmetric = symmetric
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=int(symmetric)) if learned else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.symmetric else F.pad(x, (0, 1, 0, 1)))


class ResBlock(nn.Module):
    """norm, SiLU, conv, (+ time embedding), norm, SiLU, dropout, conv; plus a skip.

    Args:
        in_channels, out_channels: the skip is a 1x1 convolution when they differ, else the identity.
        emb_channels: width of the time embedding; None in the autoencoder.
        scale_shift: the embedding scales and shifts the second norm's output instead of being added before it.
        resample: halve or double the size of both branches between the first SiLU and the first convolution.
        dropout: before the last convolution.
        zero: initialise the last convolution to zero (as in the UNet).
        eps, groups: of the norms.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int | None = None,
        *,
        scale_shift: bool = False,
        resample: Resample | None = None,
        dropout: float = 0.0,
        zero: bool = False,
        eps: float = 1e-5,
        groups: int = 32,
    ) -> None:
        super().__init__()
        integer(in_channels=in_channels, out_channels=out_channels, emb_channels=emb_channels)
        share(dropout=dropout)
        self.scale_shift = scale_shift
        self.in_norm = group_norm(in_channels, eps, groups)
        self.in_conv = conv3(in_channels, out_channels)
        self.emb = nn.Linear(emb_channels, out_channels * (2 if scale_shift else 1)) if emb_channels else None
        self.out_norm = group_norm(out_channels, eps, groups)
        self.dropout = nn.Dropout(dropout)
        self.out_conv = conv3(out_channels, out_channels, zero=zero)
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        self.resample: nn.Module = nn.Identity()
        if resample is not None:
            channels = in_channels
            self.resample = Upsample(channels, learned=False) if resample == "up" else Downsample(channels, learned=False)

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        """x `(B, in_channels, h, w)`, emb `(B, emb_channels)` -> `(B, out_channels, h', w')`."""
        h = self.in_conv(self.resample(F.silu(self.in_norm(x))))
        if self.emb is not None:
            if emb is None:
                raise ValueError("this ResBlock was built with emb_channels and needs the time embedding")
            e = self.emb(F.silu(emb))[:, :, None, None].to(h.dtype)
            if self.scale_shift:
                scale, shift = e.chunk(2, dim=1)
                h = self.out_norm(h) * (1 + scale) + shift
            else:
                h = self.out_norm(h + e)
        else:
            h = self.out_norm(h)
        h = self.out_conv(self.dropout(F.silu(h)))
        return self.skip(self.resample(x)) + h
