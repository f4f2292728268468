"""Images as channels concatenated to z_t: super-resolution, inpainting, semantic maps (Sec. 4.3.2, 4.4, 4.5)."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.conditioning.base import Conditioner, Conditioning, Encode
from ldm.conditioning.fill import fill_smoothly
from ldm.data.batch import KEPT, UNLABELLED, Batch, Key
from ldm.ranges import integer, positive, share


class ConcatImage(Conditioner):
    """An image of the batch, encoded by the first stage or as pixels, concatenated to z_t.

    Args:
        key: batch key of the image `(B, C, H, W)`.
        channels: those of the latent if encoded, else those of the image.
        encode: encode it with the model's first stage (a masked image) instead of using its pixels (a mask, a low
            resolution image).
        factor: nearest-neighbour downsampling of the pixels to the size of the latent (f for a mask, 1 for a low
            resolution image that already has that size).
        enlarge: bicubic upsampling of the pixels to the size of the latent (4 for a low resolution image beside pixels, where
            f is 1).
        fold: side of the squares of pixels that are folded into channels, fold^2 times as many (f for a mask: unlike with `factor`
            no pixel is lost, so that a latent cell has the mask of all its pixels).
        scaled: multiply an encoded image by the model's latent scale. The original does not.
        signed: map the pixels from [0, 1] to [-1, 1], as the original does with masks.
        uncond_prob: share of training samples whose image becomes zero (mid grey) before it is encoded or resized.
        fill: batch key of a mask `(B, 1, H, W)`: before encoding, the image is filled with the surrounding colours where it is 1. The
            original leaves masked images black there, which disturbs the latents of the pixels beside the mask.

    Raises:
        ValueError: more than one of encode, factor, enlarge and fold.
    """

    def __init__(
        self,
        key: str,
        channels: int,
        encode: bool = False,
        factor: int = 1,
        scaled: bool = True,
        signed: bool = False,
        uncond_prob: float = 0.0,
        enlarge: int = 1,
        fold: int = 1,
        fill: str | None = None,
    ) -> None:
        super().__init__()
        integer(channels=channels, factor=factor, enlarge=enlarge, fold=fold)
        share(uncond_prob=uncond_prob)
        if encode + (factor > 1) + (enlarge > 1) + (fold > 1) > 1:
            raise ValueError(f"ConcatImage takes one of encode={encode}, factor={factor}, enlarge={enlarge} and fold={fold}")
        self.key, self.encode_first, self.factor, self.enlarge, self.uncond_prob = key, encode, factor, enlarge, uncond_prob
        self.scaled, self.signed, self.fold, self.fill = scaled, signed, fold, fill
        times = factor * fold / enlarge
        shape = ("C", "H", "W") if encode else (channels, f"{times:g}h", f"{times:g}w")
        masks = {} if fill is None else {fill: Key(shape=(1, *shape[1:]), null=KEPT, low=0.0, high=1.0)}
        self.keys = {key: Key(shape=shape, null=0.0), **masks}
        self.concat_channels = channels * fold**2

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        x = batch[self.key]
        if self.fill is not None:
            x = fill_smoothly(x, batch[self.fill])
        if self.encode_first:
            return Conditioning(concat=encode(x, self.scaled))
        if self.factor > 1:
            x = F.interpolate(x, size=(x.shape[2] // self.factor, x.shape[3] // self.factor), mode="nearest")
        if self.fold > 1:
            x = F.pixel_unshuffle(x, self.fold)
        if self.enlarge > 1:
            x = F.interpolate(x, scale_factor=self.enlarge, mode="bicubic")
        return Conditioning(concat=2.0 * x - 1.0 if self.signed else x)


class Rescaler(nn.Module):
    """Repeated resizing, then an optional 1x1 convolution: `(B, C, H, W)` -> `(B, out_channels, ...)`.

    Args:
        in_channels: C.
        out_channels: of the convolution; None disables it.
        stages: number of resizing steps.
        factor: of one resizing step.
        method: interpolation.
        bias: of the convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        stages: int = 1,
        factor: float = 0.5,
        method: Literal["nearest", "bilinear", "bicubic", "area"] = "bilinear",
        bias: bool = False,
    ) -> None:
        super().__init__()
        integer(in_channels=in_channels, out_channels=out_channels)
        integer(0, stages=stages)
        positive(factor=factor)
        self.stages, self.factor, self.method = stages, factor, method
        self.out_channels = out_channels or in_channels
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=bias) if out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.stages):
            x = F.interpolate(x, scale_factor=self.factor, mode=self.method)
        return x if self.conv is None else self.conv(x)


class LabelMap(Conditioner):
    """A label map `(B, H, W)`: one-hot, resized to the latent and mapped to a few channels (Sec. 4.3.2), trained along.

    Args:
        num_classes: labels 0 ... num_classes - 1; any other, and always 255 (unlabelled), is zero in every channel. "data" in a config: as
            the training set has them, for the rescaler's `in_channels`, too.
        rescaler: resizes to the latent's size.
        uncond_prob: share of training samples whose map becomes unlabelled.
    """

    def __init__(self, num_classes: int, rescaler: Rescaler, uncond_prob: float = 0.0) -> None:
        super().__init__()
        integer(num_classes=num_classes)
        share(uncond_prob=uncond_prob)
        self.num_classes, self.rescaler, self.uncond_prob = num_classes, rescaler, uncond_prob
        self.keys = {"segmentation": Key(torch.int64, ("H", "W"), UNLABELLED, 0, num_classes - 1, null_in_data=True)}
        self.concat_channels = rescaler.out_channels

    @staticmethod
    def from_data(params: dict[str, Any], data: Any) -> None:
        """See `ldm.check.from_data`."""
        params["num_classes"] = data.number_of_classes("segmentation")
        if isinstance(rescaler := params.get("rescaler"), dict):
            inside = {**(rescaler.get("params") or {}), "in_channels": params["num_classes"]}
            params["rescaler"] = {**rescaler, "params": inside}

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        labels = batch["segmentation"]
        known = (labels < self.num_classes) & (labels != UNLABELLED)
        # F.one_hot returns int64: at 512x1024 and 182 classes 0.8 GB per image, and more for intermediate results.
        one_hot = torch.zeros(len(labels), self.num_classes, *labels.shape[1:], device=labels.device)
        one_hot.scatter_(1, (labels * known)[:, None], known[:, None].float())
        return Conditioning(concat=self.rescaler(one_hot))
