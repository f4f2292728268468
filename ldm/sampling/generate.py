"""From a model to images: one function that scripts, image logging and evaluation share."""

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
    """How to sample.

    Attributes:
        sampler: a name of `SAMPLERS`, or package.function of a trusted package.
        steps: at least 1; of discrete times at most all.
        eta: of samplers that have one (DDIM's); 0 is deterministic.
        scale: of classifier-free guidance; 1 is none.
        guidance_interval: share of the noise levels that is guided, see `Guidance`.
        guidance_rescale, guidance_channels: see `Guidance`.
        spacing: where the steps lie, one of the process's `spacings`: "uniform" makes exactly the asked number and ends on clean
            data; "original_uniform" and "original_quadratic" do as the original code does.

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
        """Every time that the sampler stops at, the noisiest first.

        Raises:
            UserError: a spacing that the process does not have, or a number of steps that it cannot do.
        """
        spacings = process.spacings()
        if self.spacing not in spacings:
            raise UserError(f"spacing {self.spacing!r} is unknown to {type(process).__name__}; there are {', '.join(spacings)}")
        try:
            return spacings[self.spacing](self.steps)
        except ValueError as error:
            raise UserError(str(error)) from error

    def check(self, process: Process) -> None:
        """Whether this sampler can do these steps of this process: it is tried on a single number.

        Raises:
            UserError: it cannot.
        """
        times = self.times(process)
        z = torch.zeros(1, 1, 1, 1, device=next((table.device for table in process.buffers()), "cpu"))
        try:
            self.run(lambda z_t, t: Prediction(z_t, z_t), z, process, [times[0], *times[-2:]], torch.zeros_like)
        except ValueError as error:
            raise UserError(str(error)) from error
        except Exception as error:  # of any kind, from a sampler that is not ours
            raise UserError(f"sampler {self.sampler}: {type(error).__name__}: {error}") from error

    def run(self, denoise: Denoise, z: Tensor, process: Process, times: Sequence[float], noise: Noise, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Sample with these settings; arguments as samplers take them."""
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
            self.guidance  # noqa: B018  (its numbers are checked where they are explained)
        except (ValueError, TypeError, IndexError) as error:
            raise UserError(str(error)) from error
        if self.eta and not takes_eta(sampler):
            raise UserError(f"eta belongs to ddim; sampler {self.sampler!r} has none")


def sampler_named(name: str) -> Sampler:
    """A sampler of ours, or a function of a trusted package.

    Raises:
        UserError: neither.
    """
    if not isinstance(name, str) or (name not in SAMPLERS and "." not in name):
        raise UserError(f"sampler {name!r} is unknown; there are {', '.join(SAMPLERS)}")
    if name in SAMPLERS:
        return SAMPLERS[name]
    from ldm.config.targets import trusted_function  # here, for sampling from a model needs no configs

    try:
        return trusted_function(name)
    except ValueError as error:
        raise UserError(f"sampler {error}") from error


def takes_eta(sampler: Sampler) -> bool:
    """Whether a sampler has DDIM's eta."""
    return "eta" in inspect.signature(sampler).parameters


@torch.no_grad()
def generate(
    model: LatentDiffusion,
    condition: Batch,
    numbers: Sequence[int],
    size: tuple[int, int],
    settings: SamplerSettings,
    seed: int = 0,
    steering: SamplingOptions | None = None,
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
    steering = steering or SamplingOptions()
    shape = model.latent_shape(*size)
    device = model.device
    condition = to_device(condition, device)
    negative = None if steering.negative is None else to_device(steering.negative, device)
    check_guidance(model, condition, settings, steering)
    generators = [generator(seed, i) for i in numbers]

    def noise(z: Tensor) -> Tensor:
        return normal(shape, generators, z)

    z = normal(shape, generators).to(device)
    try:
        times, z = steering.begin(model, settings.times(model.process), z)
    except ValueError as error:
        raise UserError(str(error)) from error
    hooks, finish = steering.hooks(model, noise, z)
    denoise = steering.guided(model.denoiser(condition, settings.guidance, negative, steering.windows, steering.worse))
    z_0 = settings.run(denoise, z, model.process, times, noise, hooks)
    return model.decode(finish(z_0), steering.windows).float().clamp(-1, 1)


def check_guidance(model: LatentDiffusion, condition: Batch, settings: SamplerSettings, steering: SamplingOptions) -> None:
    """Whether this sampler can run on the model's process, and whether there is something to guide against.

    Raises:
        UserError: it cannot, or there is not.
    """
    settings.check(model.process)
    if settings.scale == 1.0 or not model.conditioner.reads or steering.negative or steering.worse or model.conditioner.uncond_prob:
        return
    _warn_once("the model's config has no uncond_prob: guidance needs a model that was trained with dropped conditions")
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
