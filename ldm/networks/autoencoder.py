"""Encoder E and decoder D of the perceptual compression stage (Sec. 3.1, App. G)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ldm.networks.levels import check_levels
from ldm.nn.attention import SingleHeadAttention
from ldm.nn.conv import Downsample, ResBlock, Upsample, conv3, group_norm
from ldm.ranges import integer

EPS = 1e-6  # of every norm in the autoencoder


def _block(cin: int, cout: int, dropout: float, groups: int, attend: bool) -> nn.Sequential:
    res = ResBlock(cin, cout, dropout=dropout, eps=EPS, groups=groups)
    return nn.Sequential(res, SingleHeadAttention(cout, groups)) if attend else nn.Sequential(res)


def _middle(channels: int, dropout: float, groups: int, attend: bool) -> nn.Sequential:
    return nn.Sequential(*_block(channels, channels, dropout, groups, attend), *_block(channels, channels, dropout, groups, False))


class Encoder(nn.Module):
    """Image `(B, C, H, W)` -> features `(B, out_channels, H/f, W/f)` with f = stem * 2^(levels - 1).

    Args:
        in_channels: of the image.
        out_channels: of the result (twice the latent channels for KL).
        width, width_mult, blocks_per_level: as in `UNet`.
        attention_at: downsampling factors, counted after the stem, of the levels with attention in every block.
        middle_attention: attention in the middle block (false in "noattn" models).
        stem: factor of a space-to-depth before the first convolution: cheap compression for small compute budgets.
        dropout: in the residual blocks.
        norm_groups: groups of the norms; the largest common divisor if they do not divide the channels.

    Raises:
        ValueError: no levels, or a width or stem below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int,
        width_mult: Sequence[int],
        blocks_per_level: int = 2,
        attention_at: Sequence[int] = (),
        middle_attention: bool = True,
        stem: int = 1,
        dropout: float = 0.0,
        norm_groups: int = 32,
    ) -> None:
        super().__init__()
        integer(in_channels=in_channels, out_channels=out_channels, stem=stem, norm_groups=norm_groups)
        check_levels(width, width_mult, blocks_per_level, attention_at)
        self.stem = stem
        self.conv_in = conv3(in_channels * stem**2, width)
        levels: list[nn.Module] = []
        channels = width
        for i, mult in enumerate(width_mult):
            for _ in range(blocks_per_level):
                levels.append(_block(channels, width * mult, dropout, norm_groups, 2**i in attention_at))
                channels = width * mult
            if i < len(width_mult) - 1:
                levels.append(Downsample(channels, symmetric=False))
        self.down = nn.Sequential(*levels)
        self.middle = _middle(channels, dropout, norm_groups, middle_attention)
        self.norm_out = group_norm(channels, EPS, norm_groups)
        self.conv_out = conv3(channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(F.pixel_unshuffle(x, self.stem) if self.stem > 1 else x)
        h = self.middle(self.down(h))
        return self.conv_out(F.silu(self.norm_out(h)))


class Decoder(nn.Module):
    """Latent `(B, in_channels, h, w)` -> image `(B, out_channels, f h, f w)`; arguments as in `Encoder`.

    It has one more residual block per level than the encoder.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int,
        width_mult: Sequence[int],
        blocks_per_level: int = 2,
        attention_at: Sequence[int] = (),
        middle_attention: bool = True,
        stem: int = 1,
        dropout: float = 0.0,
        norm_groups: int = 32,
    ) -> None:
        super().__init__()
        self.stem = stem
        channels = width * width_mult[-1]
        self.conv_in = conv3(in_channels, channels)
        self.middle = _middle(channels, dropout, norm_groups, middle_attention)
        levels: list[nn.Module] = []
        for i, mult in reversed(list(enumerate(width_mult))):
            for _ in range(blocks_per_level + 1):
                levels.append(_block(channels, width * mult, dropout, norm_groups, 2**i in attention_at))
                channels = width * mult
            if i > 0:
                levels.append(Upsample(channels))
        self.up = nn.Sequential(*levels)
        self.norm_out = group_norm(channels, EPS, norm_groups)
        self.conv_out = conv3(channels, out_channels * stem**2)

    def forward(self, z: Tensor) -> Tensor:
        h = self.up(self.middle(self.conv_in(z)))
        x = self.conv_out(F.silu(self.norm_out(h)))
        return F.pixel_shuffle(x, self.stem) if self.stem > 1 else x
