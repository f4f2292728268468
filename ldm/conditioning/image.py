"""Images as channels beside z_t: super-resolution, inpainting (Sec. 4.4, 4.5)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ldm.conditioning.base import Conditioner, Conditioning, Encode
from ldm.data.batch import Batch


class ConcatImage(Conditioner):
    """An image of the batch, through the first stage or as it is, concatenated to z_t.

    Args:
        key: batch key of the image `(B, C, H, W)`.
        channels: how many it brings: those of the latent when encoded, else those of the image.
        encode: pass it through the model's first stage (a masked image) instead of using its pixels (a mask, a low
            resolution image).
        factor: nearest-neighbour reduction of the unencoded image to the size of the latent (f for a mask, 1 for a low
            resolution image that has that size already).
        drop_rate: share of training samples whose image becomes zero (mid grey) before it is encoded or reduced.
    """

    def __init__(self, key: str, channels: int, encode: bool = False, factor: int = 1, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.key, self.encode_first, self.factor, self.drop_rate = key, encode, factor, drop_rate
        self.reads = (key,)
        self.concat_channels = channels

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        x = batch[self.key]
        if self.encode_first:
            return Conditioning(concat=encode(x))
        if self.factor > 1:
            x = F.interpolate(x, size=(x.shape[2] // self.factor, x.shape[3] // self.factor), mode="nearest")
        return Conditioning(concat=x)

    def drop(self, batch: Batch, where: Sequence[bool]) -> Batch:
        x = batch[self.key]
        gone = torch.as_tensor(where, device=x.device)[:, None, None, None]
        return {**batch, self.key: torch.where(gone, torch.zeros_like(x), x)}
