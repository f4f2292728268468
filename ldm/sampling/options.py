"""Sampling options: negative conditions, starting images, known regions, tiles, guides."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from ldm.conditioning.fill import fill_smoothly
from ldm.data.batch import Batch
from ldm.diffusion.guidance import Denoise
from ldm.diffusion.sampling import NO_HOOKS, Hooks, Noise, known_region, last_part
from ldm.diffusion.tiling import Tiles
from ldm.model import LatentDiffusion


@dataclass(frozen=True)
class SamplingOptions:
    """Options for sampling one batch. Images are `(B, C, H, W)` in [-1, 1], of the size to be sampled, or `(1, C, H, W)` for all.

    Attributes:
        negative: batch entries of the negative condition, see `LatentDiffusion.denoiser`.
        worse: a smaller or earlier model of the same latents for autoguidance, in place of the null condition.
        start: images to start from, noised, instead of pure noise (image to image).
        strength: share of the steps to run from there, more than 0 and at most 1.
        known: images whose pixels outside the mask are kept (known-region replacement, for models that read no mask); pixels
            inside have no effect.
        mask: `(B or 1, 1, H, W)`, 1 where the model generates; required by `known`.
        tiles: evaluate network, encoder and decoder in overlapping tiles.
        guides: functions from a denoiser to a denoiser, applied in order.
        on_step: called after every step, for progress bars.
    """

    negative: Batch | None = None
    worse: LatentDiffusion | None = None
    start: Tensor | None = None
    strength: float = 1.0
    known: Tensor | None = None
    mask: Tensor | None = None
    tiles: Tiles | None = None
    guides: Sequence[Callable[[Denoise], Denoise]] = ()
    on_step: Callable[[], None] = lambda: None

    def begin(self, model: LatentDiffusion, times: Sequence[float], noise: Tensor) -> tuple[Sequence[float], Tensor]:
        """Remaining times, and the noisy latent `(B, c, h, w)` to start from.

        Raises:
            ValueError: a strength outside (0, 1].
        """
        if self.start is None:
            return times, model.process.begin(noise)
        times = last_part(times, self.strength)
        z_0 = model.encode_condition(self.start.to(noise.device), tiles=self.tiles).float()
        return times, model.process.add_noise(z_0, times[0], noise)

    def guided(self, denoise: Denoise) -> Denoise:
        """The denoiser with all guides applied."""
        for guide in self.guides:
            denoise = guide(denoise)
        return denoise

    def hooks(self, model: LatentDiffusion, noise: Noise, like: Tensor) -> tuple[Hooks, Callable[[Tensor], Tensor]]:
        """Hooks around every step, and a function of the clean latent after the last; `like` has the latent's device."""
        hooks, finish = NO_HOOKS, lambda z_0: z_0
        if self.known is not None and self.mask is not None:
            mask = self.mask.to(like.device)
            given = fill_smoothly(
                self.known.to(like.device), mask
            )  # the encoder's receptive field exceeds one cell, so that pixels inside the mask would have an effect
            known = model.encode_condition(given, tiles=self.tiles).float()
            mask = latent_mask(mask, model.first_stage.factor)
            hooks = known_region(known, mask, model.process, noise)

            def finish(z_0: Tensor) -> Tensor:
                return mask * z_0 + (1.0 - mask) * known

        def after(z_s: Tensor, z_0: Tensor, t: float) -> Tensor:
            self.on_step()
            return z_s

        return replace(hooks, after=after), finish


def latent_mask(mask: Tensor, factor: int) -> Tensor:
    """`(B, 1, H, W)` in pixels -> `(B, 1, H/f, W/f)`: a latent cell is masked if any of its pixels is."""
    return F.max_pool2d(mask, factor)
