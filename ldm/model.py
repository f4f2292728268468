"""The model of Fig. 3: frozen first stage, conditioner, denoising network. Plain PyTorch, independent of any trainer."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from ldm.conditioning.base import Conditioner, Conditioning, Unconditional
from ldm.data.batch import Batch
from ldm.diffusion.guidance import Denoise, Guidance, autoguidance, classifier_free
from ldm.diffusion.objective import DiffusionObjective
from ldm.diffusion.parameterization import PARAMETERIZATIONS, Parameterization, Prediction
from ldm.diffusion.process import Process
from ldm.diffusion.tiling import Tiles
from ldm.errors import UserError
from ldm.first_stage.base import FirstStage
from ldm.networks.base import Network
from ldm.ranges import finite, share
from ldm.rng import StepRNG


class LatentDiffusion(nn.Module):
    """p(z_0 | y) by denoising in the latent space of a frozen first stage.

    Args:
        first_stage: E and D; frozen and kept in eval mode.
        network: the denoising network.
        process: the diffusion process.
        conditioner: y -> Conditioning; trained together with the network if its parameters require gradients.
        parameterization: what the network predicts: a name, or your own.
        scale: factor of latents (App. G): a number, or one per channel; "std" measures 1/std on the first training batch,
            "channels" mean and 1/std of each channel; "first_stage" takes scale and mean from the first stage's file, and is "std"
            if that states none.
        mean: subtracted from latents before scaling: a number per channel; None means 0.

    Raises:
        ValueError: channels or widths that do not match (the message gives the numbers), or a parameterization that does not
            work with the process.
    """

    def __init__(
        self,
        first_stage: FirstStage,
        network: Network,
        process: Process,
        conditioner: Conditioner | None = None,
        parameterization: str | Parameterization = "eps",
        scale: float | Sequence[float] | Literal["std", "channels", "first_stage"] = 1.0,
        mean: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.first_stage = first_stage.requires_grad_(False).eval()
        self.network, self.process = network, process
        self.conditioner = conditioner if conditioner is not None else Unconditional()
        if isinstance(parameterization, str):
            if parameterization not in PARAMETERIZATIONS:
                raise ValueError(f"parameterization {parameterization!r} is unknown; there are {', '.join(PARAMETERIZATIONS)}")
            parameterization = PARAMETERIZATIONS[parameterization]
        self.parameterization = parameterization
        parameterization.require(process)
        if scale == "first_stage":
            stated = first_stage.latents or {"scale": "std"}
            scale, mean = stated["scale"], stated.get("mean") if mean is None else mean
        self.scale_by_std = scale in ("std", "channels")
        c, unknown = self.first_stage.channels, float("nan")  # until measured, so that a missing measurement is noticed
        if scale == "channels" and mean is not None:
            raise ValueError("scale: channels measures the mean, too: remove mean")
        factor, shift = latent_scale([1.0] * c if scale == "channels" else 1.0 if scale == "std" else scale, mean, c)  # type: ignore[arg-type]
        self.scale: Tensor
        self.mean: Tensor | None
        self.register_buffer("scale", torch.full_like(factor, unknown) if self.scale_by_std else factor)
        self.register_buffer("mean", torch.full_like(factor, unknown) if scale == "channels" else shift)
        self._check_shapes()

    def _check_shapes(self) -> None:
        share(uncond_prob=self.conditioner.uncond_prob)
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

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.scale.device

    @property
    def size_multiple(self) -> int:
        """Height and width of images must be multiples of this."""
        return self.network.multiple * self.first_stage.factor

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """`(c, h, w)` of images of this height and width.

        Raises:
            UserError: a size that the first stage or the network does not support.
        """
        size = f"image size {height}x{width}"
        if min(height, width) < 1:
            raise UserError(f"{size}: expected at least 1")
        if height % self.size_multiple or width % self.size_multiple:
            raise UserError(f"{size} is not a multiple of {self.size_multiple}, which this model needs")
        shape = self.first_stage.latent_shape(height, width)
        try:
            self.network.check_size(*shape[1:])
        except ValueError as error:
            raise UserError(f"{size}: {error}") from error
        return shape

    def train(self, mode: bool = True) -> "LatentDiffusion":
        """The first stage stays in eval mode."""
        super().train(mode)
        self.first_stage.eval()
        return self

    def scaled(self, z: Tensor) -> Tensor:
        """Latents of the first stage `(B, c, h, w)` -> latents of the network."""
        return self.scale * (z if self.mean is None else z - self.mean)

    def unscaled(self, z: Tensor) -> Tensor:
        """The inverse of `scaled`."""
        z = z / self.scale
        return z if self.mean is None else z + self.mean

    def moments(self, z: Tensor) -> Tensor:
        """Count, sum and sum of squares per channel of unscaled latents `(B, c, h, w)`, minus a given mean: `(3, c)` float64."""
        z = (z if self.mean is None or self.scale.ndim else z - self.mean).double().cpu()
        number = torch.full((z.shape[1],), z.numel() / z.shape[1], dtype=torch.float64)
        return torch.stack([number, z.sum(dim=(0, 2, 3)), z.square().sum(dim=(0, 2, 3))])

    def set_scale(self, moments: Tensor) -> None:
        """Set the scale from measured moments, and the mean if `scale` is "channels"."""
        count, total, squares = moments if self.scale.ndim else moments.sum(dim=1)
        self.scale.copy_(std_scale(count, total, squares).view_as(self.scale))
        if self.scale.ndim and self.mean is not None:
            self.mean.copy_((total / count).view_as(self.mean))

    @torch.no_grad()
    def encode(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Scaled E(x): image `(B, C, H, W)` in [-1, 1] -> latent `(B, c, h, w)`; `noise` as in `FirstStage.encode`."""
        return self.scaled(self.first_stage.encode(x, noise))

    @torch.no_grad()
    def encode_condition(self, x: Tensor, scaled: bool = True, tiles: Tiles | None = None) -> Tensor:
        """E(x) of a conditioning image, `(B, C, H, W)` -> `(B, c, h, w)`: the mode, scaled or unscaled, optionally in tiles."""
        if tiles is None:
            z = self.first_stage.encode(x)
        else:
            z = tiles.apply(lambda crops, rows: self.first_stage.encode(crops), x, reduce=self.first_stage.factor)
        return self.scaled(z) if scaled else z

    def decode(self, z: Tensor, tiles: Tiles | None = None) -> Tensor:
        """Unscale and decode: latent `(B, c, h, w)` -> image `(B, C, H, W)`, about [-1, 1], optionally in tiles. Differentiable."""
        if tiles is None:
            return self.first_stage.decode(self.unscaled(z))
        return tiles.apply(lambda crops, rows: self.first_stage.decode(self.unscaled(crops)), z, self.first_stage.factor)

    def condition(self, batch: Batch, tiles: Tiles | None = None) -> Conditioning:
        """tau_theta(y) for a batch; its images are optionally encoded in tiles."""
        return self.conditioner(batch, partial(self.encode_condition, tiles=tiles))  # type: ignore[no-any-return]

    def output(self, z_t: Tensor, t: Tensor, c: Conditioning, tiles: Tiles | None = None) -> Tensor:
        """The network's raw output for z_t `(B, c, h, w)` at t `(B,)`, optionally in tiles of z_t and concatenated channels."""
        z = self.process.scale_input(z_t, t)
        z = z if c.concat is None else torch.cat([z, c.concat.to(z.dtype)], dim=1)
        told = self.process.network_time(t)
        if tiles is None:
            return self.network(z, told, c.context, c.vector)  # type: ignore[no-any-return]

        def part(crops: Tensor, rows: Tensor) -> Tensor:
            context, vector = (None if x is None else x[rows] for x in (c.context, c.vector))
            return self.network(crops, told[rows], context, vector)  # type: ignore[no-any-return]

        return tiles.apply(part, z)

    def denoise(self, z_t: Tensor, t: float, c: Conditioning, tiles: Tiles | None = None) -> Prediction:
        """Predicted noise and clean latent, float32, for z_t `(B, c, h, w)` at a time t."""
        output = self.output(z_t, self.process.time(t, z_t), c, tiles).to(z_t.dtype)
        return self.parameterization.predict(output, z_t, self.process.at(t, z_t))

    def denoiser(
        self,
        batch: Batch,
        guidance: float | Guidance = 1.0,
        negative: Batch | None = None,
        tiles: Tiles | None = None,
        worse: "LatentDiffusion | None" = None,
    ) -> Denoise:
        """`denoise(z_t, t)` with the batch's conditioning inside, guided if the scale is not 1 (Sec. 4.1).

        Args:
            batch: with the keys that the conditioner reads.
            guidance: classifier-free guidance, or autoguidance with `worse`.
            negative: batch entries (such as negative captions) to use in place of the null condition.
            tiles: evaluate the network, and the encoder of images in the batch, in overlapping tiles.
            worse: a smaller or earlier model of the same latents, for autoguidance.
        """
        guidance = guidance if isinstance(guidance, Guidance) else Guidance(guidance)
        c = self.condition(batch, tiles)

        def conditional(z_t: Tensor, t: float) -> Prediction:
            return self.denoise(z_t, t, c, tiles)

        if guidance.scale == 1.0:
            return conditional
        if worse is not None:
            return autoguidance(conditional, worse.denoiser({**batch, **(negative or {})}, tiles=tiles), guidance, self.process)
        if not self.conditioner.reads:
            return conditional
        encode = partial(self.encode_condition, tiles=tiles)
        null = self.condition({**batch, **negative}, tiles) if negative else self.conditioner.null(batch, encode)
        both = c.followed_by(null)
        return classifier_free(lambda z_t, t: self.denoise(z_t, t, both, tiles), conditional, guidance, self.process)

    def errors(self, batch: Batch, objective: DiffusionObjective, random: StepRNG) -> tuple[Tensor, Tensor]:
        """Unweighted error and time of each sample, both `(B,)`; random numbers come from `random`."""
        x = batch["image"]
        z_0 = self.encode(x, self.first_stage.posterior_noise(x, random)).float()
        c = self.condition(batch)
        t = self.process.draw_times(random, z_0.device)
        eps = random.normal("eps", z_0)
        return objective.errors(lambda z_t, t: self.output(z_t, t, c), z_0, t, eps, self.process, self.parameterization), t

    def loss(self, batch: Batch, objective: DiffusionObjective | None = None, random: StepRNG | None = None) -> Tensor:
        """The training loss of a batch, for your own training loop; conditions are dropped with `uncond_prob`.

        Args:
            batch: "image" `(B, C, H, W)` in [-1, 1] and the keys that the conditioner reads.
            objective: L2 if None.
            random: step RNG; torch's global generator if None.

        Raises:
            ValueError: a key is missing from the batch.
        """
        objective = objective if objective is not None else DiffusionObjective()
        if missing := [key for key in ("image", *self.conditioner.keys) if key not in batch]:
            raise ValueError(f"the batch has no {', '.join(missing)}; it has {', '.join(batch) or 'nothing'}")
        if random is None:
            seed = int(torch.randint(2**62, ()))
            random = StepRNG(seed, 0, [str(i) for i in range(len(batch["image"]))])
        return objective(*self.errors(self.dropped(batch, random), objective, random), self.process, self.parameterization)[0]  # type: ignore[no-any-return]

    def dropped(self, batch: Batch, random: StepRNG) -> Batch:
        """The batch with conditions dropped with probability `uncond_prob`."""
        rate = self.conditioner.uncond_prob
        return self.conditioner.drop(batch, random.chance("drop", rate).tolist()) if rate > 0 else batch


def latent_scale(scale: float | Sequence[float], mean: Sequence[float] | None, channels: int) -> tuple[Tensor, Tensor | None]:
    """Scale of latents, `()` or `(c, 1, 1)`, and their mean, `(c, 1, 1)` or None.

    Raises:
        ValueError: not a number or one per channel, or a scale of 0.
    """
    several = isinstance(scale, Sequence) and not isinstance(scale, str)
    for name, values in (("scale", scale if several else None), ("mean", mean)):
        if values is not None and (len(values) != channels or not all(map(finite, values))):  # type: ignore[arg-type]
            raise ValueError(f"{name} must have a number for each of the {channels} channels, got {values!r}")
    if not all(finite(value) and value != 0 for value in (scale if several else [scale])):  # type: ignore[union-attr]
        raise ValueError(f"scale must be a number other than 0, one for each channel, std or channels, got {scale!r}")
    # on the CPU even if the model is built on the meta device: the values are compared
    factor = torch.tensor(scale, dtype=torch.float32, device="cpu")
    shift = None if mean is None else torch.tensor(list(mean), dtype=torch.float32, device="cpu").view(-1, 1, 1)
    return factor.view(-1, 1, 1) if several else factor, shift


def std_scale(count: Tensor, total: Tensor, squares: Tensor) -> Tensor:
    """1 / (unbiased standard deviation) of latents, from their number, sum and sum of squares (App. G)."""
    return ((squares - total**2 / count) / (count - 1)) ** -0.5
