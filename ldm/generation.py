"""From a model to images: one function that scripts, image logging and evaluation share."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ldm.data.batch import Batch
from ldm.diffusion.guidance import Guidance
from ldm.diffusion.sampling import SAMPLERS, SPACINGS
from ldm.errors import UserError
from ldm.latent_diffusion import LatentDiffusion
from ldm.seeding import generator, normal

log = logging.getLogger(__name__)
DIVIDES_BY_ALPHA = ("plms", "heun")  # these cannot begin at a time of which nothing of the image is left


@dataclass(frozen=True)
class SamplerSettings:
    """How to sample.

    Attributes:
        sampler: a name of `SAMPLERS`.
        steps: 1 to T.
        eta: DDIM's; 0 is deterministic.
        scale: of classifier-free guidance; 1 is none.
        guidance_interval: share of the noise levels that is guided, see `Guidance`.
        guidance_rescale: see `Guidance`.
        spacing: where the steps lie, a name of `SPACINGS`: "uniform" makes exactly the asked number and ends on clean data;
            "original_uniform" and "original_quadratic" do as the original code does.

    Raises:
        UserError: an unknown sampler or spacing, or a number out of range.
    """

    sampler: str = "ddim"
    steps: int = 50
    eta: float = 0.0
    scale: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    guidance_rescale: float = 0.0
    spacing: str = "uniform"

    @property
    def guidance(self) -> Guidance:
        return Guidance(self.scale, self.guidance_interval, self.guidance_rescale)

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise UserError(f"sampler {self.sampler!r} is unknown; there are {', '.join(SAMPLERS)}")
        if self.spacing not in SPACINGS:
            raise UserError(f"spacing {self.spacing!r} is unknown; there are {', '.join(SPACINGS)}")
        if self.steps < 1:
            raise UserError(f"steps must be at least 1, got {self.steps}")
        if self.eta < 0:
            raise UserError(f"eta must not be negative, got {self.eta}")
        if self.eta and self.sampler != "ddim":
            raise UserError(f"eta belongs to ddim; sampler {self.sampler!r} has none")
        try:
            self.guidance  # noqa: B018  (its numbers are checked where they are explained)
        except (ValueError, TypeError, IndexError) as error:
            raise UserError(str(error)) from error


@torch.no_grad()
def generate(
    model: LatentDiffusion,
    condition: Batch,
    numbers: Sequence[int],
    size: tuple[int, int],
    settings: SamplerSettings,
    seed: int = 0,
) -> Tensor:
    """Sample images.

    Args:
        model: in eval mode, on its device.
        condition: batch with the keys that the conditioner reads, one entry per image; empty if it reads none.
        numbers: number of each image in its set. Image i draws from the generator (seed, i), so a set does not depend on
            how it is cut into batches.
        size: height and width of the images.
        settings: sampler, steps, eta, guidance scale.
        seed: of the set.

    Returns:
        `(B, C, H, W)` float32 in [-1, 1].

    Raises:
        UserError: a size or number of steps that the model cannot do.
    """
    device = model.scale.device
    if min(size) < 1:
        raise UserError(f"image size {size[0]}x{size[1]}: expected at least 1")
    try:
        shape = model.first_stage.latent_shape(*size)
        times = SPACINGS[settings.spacing](model.schedule.T, settings.steps)
    except ValueError as error:
        raise UserError(str(error)) from error
    if model.schedule.zero_terminal_snr and settings.sampler in DIVIDES_BY_ALPHA:
        raise UserError(f"sampler {settings.sampler} divides by alpha, which this model's schedule ends with as 0: use ddim or dpm_solver")
    factor = model.network.factor
    if shape[1] % factor or shape[2] % factor:
        multiple = factor * model.first_stage.factor
        raise UserError(f"image size {size[0]}x{size[1]} is no multiple of the {multiple} that this model needs")
    condition = to_device(condition, device)
    if settings.scale != 1.0 and model.conditioner.reads and model.conditioner.drop_rate == 0.0:
        log.warning("this model was trained without dropped conditions (drop_rate 0): guidance has no trained null condition")
        try:
            model.conditioner.null(condition, model.encode_condition)
        except ValueError as error:
            raise UserError(str(error)) from error
    generators = [generator(seed, i) for i in numbers]
    z_T = normal(shape, generators).to(device)
    options: dict[str, Any] = {"eta": settings.eta} if settings.sampler == "ddim" else {}
    denoise = model.denoiser(condition, settings.guidance)
    sampler = SAMPLERS[settings.sampler]
    z_0 = sampler(denoise, z_T, model.schedule, times, noise=lambda z: normal(shape, generators, z), **options)
    return model.decode(z_0).float().clamp(-1, 1)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors, and lists of tensors, on a device."""
    moved: Batch = {}
    for key, value in batch.items():
        if isinstance(value, Tensor):
            moved[key] = value.to(device)
        elif isinstance(value, list) and value and isinstance(value[0], Tensor):
            moved[key] = [item.to(device) for item in value]
        else:
            moved[key] = value
    return moved
