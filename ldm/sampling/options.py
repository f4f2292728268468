"""What tasks change about plain sampling: negative conditions, starting images, known regions, windows, guides."""

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
    """How one batch is sampled other than plainly. Images are `(B, C, H, W)` in [-1, 1], of the size
    that is sampled; `(1, C, H, W)` is one for all.

    Attributes:
        negative: batch entries that guidance steers away from, see `LatentDiffusion.denoiser`.
        worse: a smaller or earlier model of the same latents that guidance leads away from, in the place of no condition.
        start: images to begin with, noised, instead of noise alone.
        strength: share of the steps that are made from there, more than 0 and at most 1.
        known: images whose pixels outside the hole are kept (known-region replacement, for models that read no mask); those
            inside have no effect.
        hole: `(B or 1, 1, H, W)`, 1 where the model is free; goes with `known`.
        windows: evaluate network, encoder and decoder in overlapping windows.
        guides: functions from a denoiser to a denoiser, applied one after the other.
        on_step: called after every step, for progress bars.
    """

    negative: Batch | None = None
    worse: LatentDiffusion | None = None
    start: Tensor | None = None
    strength: float = 1.0
    known: Tensor | None = None
    hole: Tensor | None = None
    windows: Tiles | None = None
    guides: Sequence[Callable[[Denoise], Denoise]] = ()
    on_step: Callable[[], None] = lambda: None

    def begin(self, model: LatentDiffusion, times: Sequence[float], noise: Tensor) -> tuple[Sequence[float], Tensor]:
        """Times that are left, and the noisy latent `(B, c, h, w)` to begin with.

        Raises:
            ValueError: a strength outside (0, 1].
        """
        if self.start is None:
            return times, model.process.begin(noise)
        times = last_part(times, self.strength)
        z_0 = model.encode_condition(self.start.to(noise.device), windows=self.windows).float()
        return times, model.process.add_noise(z_0, times[0], noise)

    def guided(self, denoise: Denoise) -> Denoise:
        """The denoiser with all guides around it."""
        for guide in self.guides:
            denoise = guide(denoise)
        return denoise

    def hooks(self, model: LatentDiffusion, noise: Noise, like: Tensor) -> tuple[Hooks, Callable[[Tensor], Tensor]]:
        """What happens around every step, and with the clean latent after the last; `like` has the latent's device."""
        hooks, finish = NO_HOOKS, lambda z_0: z_0
        if self.known is not None and self.hole is not None:
            hole = self.hole.to(like.device)
            given = fill_smoothly(self.known.to(like.device), hole)  # an encoder looks beyond a cell: what is in the hole would show
            known = model.encode_condition(given, windows=self.windows).float()
            hole = latent_hole(hole, model.first_stage.factor)
            hooks = known_region(known, hole, model.process, noise)

            def finish(z_0: Tensor) -> Tensor:
                return hole * z_0 + (1.0 - hole) * known

        def after(z_s: Tensor, z_0: Tensor, t: float) -> Tensor:
            self.on_step()
            return z_s

        return replace(hooks, after=after), finish


def latent_hole(hole: Tensor, factor: int) -> Tensor:
    """`(B, 1, H, W)` in pixels -> `(B, 1, H/f, W/f)`: a latent cell is free as soon as one of its pixels is."""
    return F.max_pool2d(hole, factor)
