"""Numbers that fit a folder and a device, each by a stated rule."""

import math
from dataclasses import dataclass

from ldm.errors import UserError
from ldm.recipes.survey import Survey

SIZES = (32, 64, 128, 256, 512)
MULTIPLE = 32  # of both sides, at least: the factor of both networks together
LATENT = 4  # channels of the latent
SQUARE = (0.8, 1.25)  # width / height of images that are cut to squares
LONGEST = 2.0  # largest ratio of sides; longer images are cut


@dataclass(frozen=True)
class Tier:
    """What a device with at least `memory` GiB trains; 0 is a CPU.

    Attributes:
        largest: largest size of images in pixels.
        first_width, network_width, network_mult: of the autoencoder and the UNet.
        first_batch, batch: images per step of both stages.
        first_images, images: smallest and largest number of images seen by both trainings.
    """

    memory: int
    largest: int
    first_width: int
    network_width: int
    network_mult: tuple[int, ...]
    first_batch: int
    batch: int
    first_images: tuple[int, int]
    images: tuple[int, int]


TIERS = (
    Tier(0, 64, 32, 64, (1, 2), 16, 32, (24_000, 60_000), (60_000, 120_000)),
    Tier(3, 128, 64, 128, (1, 2, 3), 16, 32, (160_000, 1_000_000), (600_000, 5_000_000)),
    Tier(12, 256, 64, 160, (1, 2, 4), 16, 64, (200_000, 2_000_000), (1_000_000, 10_000_000)),
    Tier(24, 256, 96, 192, (1, 2, 4), 16, 64, (200_000, 2_000_000), (1_000_000, 20_000_000)),
    Tier(46, 512, 128, 256, (1, 2, 4), 16, 128, (400_000, 4_000_000), (2_000_000, 40_000_000)),
)
FIRST_EPOCHS, EPOCHS = 40, 300


@dataclass(frozen=True)
class Plan:
    """The chosen numbers.

    Attributes:
        tier: of the device.
        size: height and width of the images in pixels.
        resize: see `ldm.data.annotated.Annotated`; more than the shorter side of `size` allows random crops.
        first_mult: width multipliers of the autoencoder.
        factor, latent: downsampling factor f of the first stage and channels of its latent.
        steps, first_steps: of training.
    """

    tier: Tier
    size: tuple[int, int]
    resize: int
    first_mult: tuple[int, ...]
    factor: int
    latent: int
    first_steps: int
    steps: int

    @property
    def square(self) -> bool:
        """Whether height and width are equal."""
        return self.size[0] == self.size[1]


def plan(found: Survey, memory: float, size: int | tuple[int, int] | None = None, stage: tuple[int, int] | None = None) -> Plan:
    """Choose the numbers.

    Args:
        found: what is in the folder.
        memory: of the device in GiB; 0 is a CPU.
        size: shorter side of the images instead of the largest that fits, or height and width.
        stage: factor and channels of the latent of an existing first stage.

    Raises:
        UserError: images that are too small, or another size than the networks take.
    """
    tier = max((tier for tier in TIERS if tier.memory <= memory), key=lambda tier: tier.memory)
    multiple = MULTIPLE if stage is None else max(MULTIPLE, stage[0] * 2 ** (len(tier.network_mult) - 1))
    fits = [side for side in SIZES if side <= tier.largest and side <= 1.25 * found.side and side % multiple == 0]
    if size is None and not fits:
        raise UserError(
            f"{found.root}: images of {found.side} pixels are too small; give --size to enlarge them, such as --size {multiple}"
        )
    if isinstance(size, int) and (size < multiple or size % multiple):
        raise UserError(f"--size {size}: expected a multiple of {multiple}, the factor of both networks together")
    size = size if isinstance(size, tuple) else shape(size or fits[-1], found.aspect, multiple)
    short = min(size)
    first_mult = (1, 2, 2) if short < 256 else (1, 2, 2, 4)
    factor, latent = stage or (2 ** (len(first_mult) - 1), LATENT)
    return Plan(
        tier=tier,
        size=size,
        resize=max(short, min(short * 9 // 8, found.side)),
        first_mult=first_mult,
        factor=factor,
        latent=latent,
        first_steps=_steps(found.count, FIRST_EPOCHS, tier.first_images, tier.first_batch),
        steps=_steps(found.count, EPOCHS, tier.images, tier.batch),
    )


def shape(short: int, aspect: float, multiple: int = MULTIPLE) -> tuple[int, int]:
    """Height and width of images with this shorter side, for images of typically this width / height; multiples of `multiple`."""
    if SQUARE[0] <= aspect <= SQUARE[1]:
        return short, short
    long = max(short, round(short * min(max(aspect, 1 / aspect), LONGEST) / multiple) * multiple)
    return (short, long) if aspect > 1 else (long, short)


def _steps(count: int, epochs: int, bounds: tuple[int, int], batch: int) -> int:
    """Steps that see every image `epochs` times within bounds, in hundreds."""
    return math.ceil(min(max(count * epochs, bounds[0]), bounds[1]) / batch / 100) * 100
