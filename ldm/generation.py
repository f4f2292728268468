"""From a model to images: one function that scripts, image logging and evaluation share."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ldm.data.batch import Batch
from ldm.diffusion.guidance import Guidance
from ldm.diffusion.sampling import SAMPLERS, SPACINGS
from ldm.errors import UserError
from ldm.latent_diffusion import LatentDiffusion
from ldm.ranges import integer, number
from ldm.seeding import generator, normal
from ldm.steering import Steering

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
        if not isinstance(self.sampler, str) or self.sampler not in SAMPLERS:
            raise UserError(f"sampler {self.sampler!r} is unknown; there are {', '.join(SAMPLERS)}")
        if not isinstance(self.spacing, str) or self.spacing not in SPACINGS:
            raise UserError(f"spacing {self.spacing!r} is unknown; there are {', '.join(SPACINGS)}")
        try:
            integer(steps=self.steps)
            number(0, eta=self.eta)
            self.guidance  # noqa: B018  (its numbers are checked where they are explained)
        except (ValueError, TypeError, IndexError) as error:
            raise UserError(str(error)) from error
        if self.eta and self.sampler != "ddim":
            raise UserError(f"eta belongs to ddim; sampler {self.sampler!r} has none")


@torch.no_grad()
def generate(
    model: LatentDiffusion,
    condition: Batch,
    numbers: Sequence[int],
    size: tuple[int, int],
    settings: SamplerSettings,
    seed: int = 0,
    steering: Steering | None = None,
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
        steering: what is asked beyond the condition; nothing without it.

    Returns:
        `(B, C, H, W)` float32 in [-1, 1].

    Raises:
        UserError: a size, strength or number of steps that the model cannot do.
    """
    steering = steering or Steering()
    shape = latent_shape(model, size)
    device = model.scale.device
    condition = to_device(condition, device)
    against = None if steering.against is None else to_device(steering.against, device)
    check_guidance(model, condition, settings, steering)
    generators = [generator(seed, i) for i in numbers]

    def noise(z: Tensor) -> Tensor:
        return normal(shape, generators, z)

    z = normal(shape, generators).to(device)
    try:
        times, z = steering.begin(model, SPACINGS[settings.spacing](model.schedule.T, settings.steps), z)
    except ValueError as error:
        raise UserError(str(error)) from error
    hooks, finish = steering.hooks(model, noise, z)
    denoise = steering.guided(model.denoiser(condition, settings.guidance, against, steering.windows))
    options: dict[str, Any] = {"eta": settings.eta} if settings.sampler == "ddim" else {}
    z_0 = SAMPLERS[settings.sampler](denoise, z, model.schedule, times, noise=noise, hooks=hooks, **options)
    return model.decode(finish(z_0), steering.windows).float().clamp(-1, 1)


def latent_shape(model: LatentDiffusion, size: tuple[int, int]) -> tuple[int, int, int]:
    """`(c, h, w)` of images of this height and width.

    Raises:
        UserError: a size that first stage or network cannot halve often enough.
    """
    if min(size) < 1:
        raise UserError(f"image size {size[0]}x{size[1]}: expected at least 1")
    try:
        shape = model.first_stage.latent_shape(*size)
    except ValueError as error:
        raise UserError(str(error)) from error
    if shape[1] % model.network.factor or shape[2] % model.network.factor:
        raise UserError(f"image size {size[0]}x{size[1]} is no multiple of the {size_multiple(model)} that this model needs")
    return shape


def size_multiple(model: LatentDiffusion) -> int:
    """What height and width must be multiples of."""
    return model.network.factor * model.first_stage.factor


def check_guidance(model: LatentDiffusion, condition: Batch, settings: SamplerSettings, steering: Steering) -> None:
    """Whether this sampler can run on this schedule, and whether there is something to guide against.

    Raises:
        UserError: it cannot, or there is not.
    """
    if model.schedule.zero_terminal_snr and settings.sampler in DIVIDES_BY_ALPHA:
        raise UserError(f"sampler {settings.sampler} divides by alpha, which this model's schedule ends with as 0: use ddim or dpm_solver")
    if settings.scale == 1.0 or not model.conditioner.reads or steering.against or model.conditioner.drop_rate:
        return
    _warn_once("the model's config has no drop_rate: guidance needs a model that was trained with dropped conditions")
    try:
        model.conditioner.drop(condition, [True] * len(condition[model.conditioner.reads[0]]))
    except ValueError as error:
        raise UserError(str(error)) from error


@cache
def _warn_once(text: str) -> None:
    log.warning(text)  # a set has hundreds of batches


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
