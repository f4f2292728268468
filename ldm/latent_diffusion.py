"""The model of Fig. 3: frozen first stage, conditioner, denoising network. Plain PyTorch; trains and samples anywhere."""

from typing import Literal

import torch
from torch import Tensor, nn

from ldm.conditioning.base import Conditioner, Conditioning, Unconditional
from ldm.data.batch import Batch
from ldm.diffusion.guidance import Denoise, classifier_free
from ldm.diffusion.parameterization import PARAMETERIZATIONS, Prediction
from ldm.diffusion.schedule import NoiseSchedule
from ldm.first_stage.base import FirstStage
from ldm.networks.unet import UNet


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
        ValueError: channels or widths that do not fit together; the message gives the numbers.
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
        self.scale: Tensor
        # nan until measured, so that a forgotten measurement cannot pass unnoticed
        self.register_buffer("scale", torch.tensor(float("nan") if scale == "std" else float(scale)))
        self.scale_by_std = scale == "std"
        self._check_shapes()

    def _check_shapes(self) -> None:
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

    def decode(self, z: Tensor) -> Tensor:
        """D(z / scale): latent `(B, c, h, w)` -> image `(B, C, H, W)`, about [-1, 1]. Differentiable."""
        return self.first_stage.decode(z / self.scale)

    def condition(self, batch: Batch) -> Conditioning:
        """tau_theta(y) for a batch."""
        return self.conditioner(batch, self.encode)  # type: ignore[no-any-return]

    def output(self, z_t: Tensor, t: Tensor, c: Conditioning) -> Tensor:
        """The network's raw output for z_t `(B, c, h, w)` at t `(B,)`."""
        z = z_t if c.concat is None else torch.cat([z_t, c.concat.to(z_t.dtype)], dim=1)
        return self.network(z, t, c.context, c.vector)  # type: ignore[no-any-return]

    def denoise(self, z_t: Tensor, t: Tensor, c: Conditioning) -> Prediction:
        """Predicted noise and clean latent, float32, for z_t `(B, c, h, w)` at t `(B,)`."""
        output = self.output(z_t, t, c).to(z_t.dtype)
        return self.parameterization.predict(output, z_t, self.schedule.alpha(t, z_t), self.schedule.sigma(t, z_t))

    def denoiser(self, batch: Batch, scale: float = 1.0) -> Denoise:
        """`denoise(z_t, t)` with the batch's conditioning inside, guided if `scale` is not 1 (Sec. 4.1)."""
        c = self.condition(batch)
        if scale == 1.0 or not self.conditioner.reads:
            return lambda z_t, t: self.denoise(z_t, t, c)
        both = c.followed_by(self.conditioner.null(batch, self.encode))
        return classifier_free(lambda z_t, t: self.denoise(z_t, t, both), scale)
