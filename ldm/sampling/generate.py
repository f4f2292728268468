"""Sample images from a model: used by scripts, image logging and evaluation."""

import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ldm.data.batch import Batch
from ldm.diffusion.guidance import Denoise, Guidance
from ldm.diffusion.parameterization import Prediction
from ldm.diffusion.process import Process
from ldm.diffusion.sampling import NO_HOOKS, SAMPLERS, Hooks, Noise, Sampler
from ldm.errors import UserError
from ldm.model import LatentDiffusion
from ldm.ranges import integer, number
from ldm.rng import generator, normal
from ldm.sampling.options import SamplingOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SamplerSettings:
    """Settings of the sampler.

    Attributes:
        sampler: a name of `SAMPLERS`, or package.function of a trusted package.
        steps: number of steps, at least 1; at most T for discrete timesteps.
        eta: eta of DDIM; 0 is deterministic.
        scale: scale of classifier-free guidance; 1 disables it.
        guidance_interval: noise levels at which guidance is used, see `Guidance`.
        guidance_rescale, guidance_channels: see `Guidance`.
        spacing: one of the process's `spacings`: "uniform" makes exactly `steps` steps and ends at clean data; "original_uniform"
            and "original_quadratic" are those of the original code.

    Raises:
        UserError: an unknown sampler or spacing, or a number out of range.
    """

    sampler: str = "ddim"
    steps: int = 50
    eta: float = 0.0
    scale: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    guidance_rescale: float = 0.0
    guidance_channels: int | None = None
    spacing: str = "uniform"

    def times(self, process: Process) -> Sequence[float]:
        """Times of the sampler in decreasing order.

        Raises:
            UserError: a spacing that the process does not have, or a number of steps that it does not support.
        """
        spacings = process.spacings()
        if self.spacing not in spacings:
            raise UserError(f"spacing {self.spacing!r} is unknown to {type(process).__name__}; there are {', '.join(spacings)}")
        try:
            return spacings[self.spacing](self.steps)
        except ValueError as error:
            raise UserError(str(error)) from error

    def check(self, process: Process) -> None:
        """Check that the sampler works with these steps of this process, by running it on a single number.

        Raises:
            UserError: it does not.
        """
        times = self.times(process)
        z = torch.zeros(1, 1, 1, 1, device=next((table.device for table in process.buffers()), "cpu"))
        try:
            self.run(lambda z_t, t: Prediction(z_t, z_t), z, process, [times[0], *times[-2:]], torch.zeros_like)
        except ValueError as error:
            raise UserError(str(error)) from error
        except Exception as error:  # of any kind, from an external sampler
            raise UserError(f"sampler {self.sampler}: {type(error).__name__}: {error}") from error

    def run(self, denoise: Denoise, z: Tensor, process: Process, times: Sequence[float], noise: Noise, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Sample with these settings; arguments as in the samplers."""
        sampler = sampler_named(self.sampler)
        options: dict[str, Any] = {"eta": self.eta} if takes_eta(sampler) else {}
        return sampler(denoise, z, process, times, noise=noise, hooks=hooks, **options)

    @property
    def guidance(self) -> Guidance:
        return Guidance(self.scale, self.guidance_interval, self.guidance_rescale, self.guidance_channels)

    def __post_init__(self) -> None:
        sampler = sampler_named(self.sampler)
        try:
            integer(steps=self.steps)
            number(0, eta=self.eta)
            self.guidance  # noqa: B018  (validates its arguments)
        except (ValueError, TypeError, IndexError) as error:
            raise UserError(str(error)) from error
        if self.eta and not takes_eta(sampler):
            raise UserError(f"eta belongs to ddim; sampler {self.sampler!r} has none")


def sampler_named(name: str) -> Sampler:
    """A sampler of `SAMPLERS`, or a function of a trusted package.

    Raises:
        UserError: neither.
    """
    if not isinstance(name, str) or (name not in SAMPLERS and "." not in name):
        raise UserError(f"sampler {name!r} is unknown; there are {', '.join(SAMPLERS)}")
    if name in SAMPLERS:
        return SAMPLERS[name]
    from ldm.config.targets import trusted_function  # imported here, because sampling from a model needs no configs

    try:
        return trusted_function(name)
    except ValueError as error:
        raise UserError(f"sampler {error}") from error


def takes_eta(sampler: Sampler) -> bool:
    """Whether a sampler has an argument eta."""
    return "eta" in inspect.signature(sampler).parameters


@torch.no_grad()
def generate(
    model: LatentDiffusion,
    condition: Batch,
    numbers: Sequence[int],
    size: tuple[int, int],
    settings: SamplerSettings,
    seed: int = 0,
    options: SamplingOptions | None = None,
) -> Tensor:
    """Sample images.

    Args:
        model: in eval mode, on its device.
        condition: batch with the keys that the conditioner reads, one entry per image; empty if it reads none.
        numbers: number of each image in its set. Image i uses the generator (seed, i), so a set does not depend on the
            batch size.
        size: height and width of the images.
        settings: sampler, steps, eta, guidance scale.
        seed: seed of the set.
        options: sampling options; the defaults if None.

    Returns:
        `(B, C, H, W)` float32 in [-1, 1].

    Raises:
        UserError: an unsupported size, strength or number of steps.
    """
    options = options or SamplingOptions()
    shape = model.latent_shape(*size)
    device = model.device
    condition = to_device(condition, device)
    negative = None if options.negative is None else to_device(options.negative, device)
    check_guidance(model, condition, settings, options)
    generators = [generator(seed, i) for i in numbers]

    def noise(z: Tensor) -> Tensor:
        return normal(shape, generators, z)

    z = normal(shape, generators).to(device)
    try:
        times, z = options.begin(model, settings.times(model.process), z)
    except ValueError as error:
        raise UserError(str(error)) from error
    hooks, finish = options.hooks(model, noise, z)
    denoise = options.guided(model.denoiser(condition, settings.guidance, negative, options.tiles, options.worse))
    z_0 = settings.run(denoise, z, model.process, times, noise, hooks)
    return model.decode(finish(z_0), options.tiles).float().clamp(-1, 1)


def check_guidance(model: LatentDiffusion, condition: Batch, settings: SamplerSettings, options: SamplingOptions) -> None:
    """Check that the sampler works with the model's process, and that there is a negative or null condition for guidance.

    Raises:
        UserError: it does not, or there is none.
    """
    settings.check(model.process)
    if settings.scale == 1.0 or not model.conditioner.reads or options.negative or options.worse or model.conditioner.uncond_prob:
        return
    _warn_once("the model's config has no uncond_prob: guidance needs a model that was trained with dropped conditions")
    try:
        model.conditioner.drop(condition, [True] * len(condition[model.conditioner.reads[0]]))
    except ValueError as error:
        raise UserError(str(error)) from error


@cache
def _warn_once(text: str) -> None:
    log.warning(text)  # cached, because a set has hundreds of batches


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors and lists of tensors moved to a device."""
    moved: Batch = {}
    for key, value in batch.items():
        if isinstance(value, Tensor):
            moved[key] = value.to(device)
        elif isinstance(value, list) and value and isinstance(value[0], Tensor):
            moved[key] = [item.to(device) for item in value]
        else:
            moved[key] = value
    return moved
