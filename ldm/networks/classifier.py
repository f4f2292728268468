"""The classifier on noisy latents that guides LDM-8-G (Tab. 10): the encoder half of a UNet with attention pooling."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ldm.networks.levels import check_levels
from ldm.networks.unet import UNetBuilder, cross_middle, descend, narrow, time_mlp
from ldm.nn.attention import AttentionPool2d
from ldm.nn.conv import conv3, group_norm
from ldm.nn.embedding import timestep_embedding
from ldm.ranges import integer


class NoisyClassifier(nn.Module):
    """classifier(z_t, t) -> logits.

    Args:
        in_channels: of z_t.
        classes: number of logits.
        size: height and width of z_t; the positions of the pooling are learned for this size.
        width, width_mult, blocks_per_level, attention_at, heads, head_channels, qkv_by_head, dropout, scale_shift, resample:
            as in `UNet`.

    Raises:
        ValueError: a size that cannot be halved often enough.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        size: int,
        width: int,
        width_mult: Sequence[int],
        blocks_per_level: int = 2,
        attention_at: Sequence[int] = (),
        *,
        heads: int | None = None,
        head_channels: int | None = None,
        qkv_by_head: bool = True,
        dropout: float = 0.0,
        scale_shift: bool = False,
        resample: Literal["conv", "pool", "residual"] = "conv",
    ) -> None:
        super().__init__()
        integer(in_channels=in_channels, classes=classes, size=size)
        check_levels(width, width_mult, blocks_per_level, attention_at)
        factor = 2 ** (len(width_mult) - 1)
        if size % factor:
            raise ValueError(f"NoisyClassifier halves the size {len(width_mult) - 1} times: {size} is not a multiple of {factor}")
        self.in_channels, self.classes, self.size, self.width = in_channels, classes, size, width
        parts = UNetBuilder(
            4 * width,
            heads=heads,
            head_channels=head_channels,
            qkv_by_head=qkv_by_head,
            dropout=dropout,
            scale_shift=scale_shift,
            resample=resample,
        )
        self.time = time_mlp(width)
        self.conv_in = conv3(in_channels, width)
        self.down, skips = parts.way_down([width * m for m in width_mult], width, blocks_per_level, attention_at)
        channels = skips[-1]
        self.middle = parts.middle(channels)
        self.norm_out = group_norm(channels)
        self.pool = AttentionPool2d((size // factor) ** 2, channels, parts.heads_of(channels), classes)

    narrow = staticmethod(narrow)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """z_t `(B, in_channels, size, size)` at t `(B,)` -> `(B, classes)`."""
        emb = self.time(timestep_embedding(t, self.width).to(self.conv_in.weight.dtype))
        h = descend(self.down, self.conv_in(z), emb, None)[-1]
        return self.pool(F.silu(self.norm_out(cross_middle(self.middle, h, emb, None))))  # type: ignore[no-any-return]
