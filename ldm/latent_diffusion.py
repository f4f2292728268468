"""The model of Fig. 3: frozen first stage, conditioner, denoising network. Plain PyTorch; trains and samples anywhere."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from ldm.conditioning.base import Conditioner, Conditioning, Unconditional
from ldm.data.batch import Batch
from ldm.diffusion.guidance import Denoise, Guidance, classifier_free
from ldm.diffusion.parameterization import PARAMETERIZATIONS, Prediction
from ldm.diffusion.schedule import NoiseSchedule
from ldm.diffusion.windows import Windows
from ldm.first_stage.base import FirstStage
from ldm.networks.unet import UNet
from ldm.ranges import finite


class LatentDiffusion(nn.Module):
    """p(z_0 | y) by denoising in the latent space of a frozen first stage.

    Args:
        first_stage: E and D; frozen and kept in eval mode.
        network: `network(z, t, context, vector)` with `in_channels` and `out_channels`.
        schedule: noise schedule.
        conditioner: y -> Conditioning; trained along if it has parameters that need gradients.
        parameterization: what the network predicts.
        scale: latents are multiplied by it (App. G); "std" measures 1/std on the first training batch.

    Raises:
        ValueError: channels or widths that do not fit together (the message gives the numbers), or noise prediction on a
            schedule that ends in pure noise.
    """

    def __init__(
        self,
        first_stage: FirstStage,
        network: UNet,
        schedule: NoiseSchedule,
        conditioner: Conditioner | None = None,
        parameterization: Literal["eps", "x0", "v"] = "eps",
        scale: float | Literal["std"] = 1.0,
    ) -> None:
        super().__init__()
        self.first_stage = first_stage.requires_grad_(False).eval()
        self.network, self.schedule = network, schedule
        self.conditioner = conditioner if conditioner is not None else Unconditional()
        self.parameterization = PARAMETERIZATIONS[parameterization]
        if scale != "std" and (not finite(scale) or scale == 0):
            raise ValueError(f"scale must be a number other than 0, or std, got {scale!r}")
        self.scale: Tensor
        # nan until measured, so that a forgotten measurement cannot pass unnoticed; known even on the meta device
        self.register_buffer("scale", torch.tensor(float("nan") if scale == "std" else float(scale), device="cpu"))
        self.scale_by_std = scale == "std"
        self._check_shapes()

    def _check_shapes(self) -> None:
        if self.schedule.zero_terminal_snr and self.parameterization is PARAMETERIZATIONS["eps"]:
            raise ValueError("parameterization eps cannot work with a schedule of zero terminal SNR: use v or x0")
        c, extra = self.first_stage.channels, self.conditioner.concat_channels
        if self.network.in_channels != c + extra:
            raise ValueError(
                f"network.in_channels is {self.network.in_channels}, but the first stage gives {c} channels and the "
                f"conditioner {extra}: it must be {c + extra}"
            )
        if self.network.out_channels != c:
            raise ValueError(f"network.out_channels is {self.network.out_channels}, but latents have {c} channels")
        for name in ("context_channels", "vector_channels"):
            wants, gets = getattr(self.network, name), getattr(self.conditioner, name)
            if wants != gets:
                raise ValueError(f"network.{name} is {wants}, but the conditioner gives {gets}")

    def train(self, mode: bool = True) -> "LatentDiffusion":
        """The first stage stays in eval mode."""
        super().train(mode)
        self.first_stage.eval()
        return self

    @torch.no_grad()
    def encode(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """scale * E(x): image `(B, C, H, W)` in [-1, 1] -> latent `(B, c, h, w)`; `noise` as in `FirstStage.encode`."""
        return self.scale * self.first_stage.encode(x, noise)

    @torch.no_grad()
    def encode_condition(self, x: Tensor, scaled: bool = True, windows: Windows | None = None) -> Tensor:
        """E(x) for an image that is given, `(B, C, H, W)` -> `(B, c, h, w)`: the mode, scaled or as it is; in windows if asked to."""
        if windows is None:
            z = self.first_stage.encode(x)
        else:
            z = windows.apply(lambda crops, rows: self.first_stage.encode(crops), x, reduce=self.first_stage.factor)
        return self.scale * z if scaled else z

    def decode(self, z: Tensor, windows: Windows | None = None) -> Tensor:
        """D(z / scale): latent `(B, c, h, w)` -> image `(B, C, H, W)`, about [-1, 1]; in windows if asked to. Differentiable."""
        if windows is None:
            return self.first_stage.decode(z / self.scale)
        return windows.apply(lambda crops, rows: self.first_stage.decode(crops / self.scale), z, self.first_stage.factor)

    def condition(self, batch: Batch, windows: Windows | None = None) -> Conditioning:
        """tau_theta(y) for a batch; images in it are encoded in windows if asked to."""
        return self.conditioner(batch, partial(self.encode_condition, windows=windows))  # type: ignore[no-any-return]

    def output(self, z_t: Tensor, t: Tensor, c: Conditioning, windows: Windows | None = None) -> Tensor:
        """The network's raw output for z_t `(B, c, h, w)` at t `(B,)`; z_t and concatenated channels in windows if asked to."""
        z = z_t if c.concat is None else torch.cat([z_t, c.concat.to(z_t.dtype)], dim=1)
        if windows is None:
            return self.network(z, t, c.context, c.vector)  # type: ignore[no-any-return]

        def part(crops: Tensor, rows: Tensor) -> Tensor:
            context, vector = (None if x is None else x[rows] for x in (c.context, c.vector))
            return self.network(crops, t[rows], context, vector)  # type: ignore[no-any-return]

        return windows.apply(part, z)

    def denoise(self, z_t: Tensor, t: Tensor, c: Conditioning, windows: Windows | None = None) -> Prediction:
        """Predicted noise and clean latent, float32, for z_t `(B, c, h, w)` at t `(B,)`."""
        output = self.output(z_t, t, c, windows).to(z_t.dtype)
        return self.parameterization.predict(output, z_t, self.schedule.alpha(t, z_t), self.schedule.sigma(t, z_t))

    def denoiser(
        self, batch: Batch, guidance: float | Guidance = 1.0, against: Batch | None = None, windows: Windows | None = None
    ) -> Denoise:
        """`denoise(z_t, t)` with the batch's conditioning inside, guided if the scale is not 1 (Sec. 4.1).

        Args:
            batch: with the keys that the conditioner reads.
            guidance: classifier-free.
            against: entries of a batch (such as negative captions) that replace those of `batch` where guidance would use the
                null condition.
            windows: evaluate the network, and the encoder of images in the batch, in overlapping windows.
        """
        guidance = guidance if isinstance(guidance, Guidance) else Guidance(guidance)
        c = self.condition(batch, windows)

        def conditional(z_t: Tensor, t: Tensor) -> Prediction:
            return self.denoise(z_t, t, c, windows)

        if guidance.scale == 1.0 or not self.conditioner.reads:
            return conditional
        encode = partial(self.encode_condition, windows=windows)
        null = self.condition({**batch, **against}, windows) if against else self.conditioner.null(batch, encode)
        both = c.followed_by(null)
        return classifier_free(lambda z_t, t: self.denoise(z_t, t, both, windows), conditional, guidance, self.schedule)


def std_scale(count: float, total: float, squares: float) -> float:
    """1 / (unbiased standard deviation) of latents, from their number, sum and sum of squares (App. G)."""
    return float(((squares - total**2 / count) / (count - 1)) ** -0.5)
