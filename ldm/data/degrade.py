"""Low-resolution versions of images: bicubic as in the paper's table 5, and the blind degradation of LDM-BSR (Sec. D.6.1).

Inputs and outputs are uint8 arrays `(H, W, C)`, as in a low-resolution file, so that training and inference use the same rounding.
"""

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image

from ldm.data.blur import anisotropic_kernel, blur, isotropic_kernel
from ldm.data.resize import Method, resize
from ldm.ranges import integer
from ldm.rng import as_numpy
from ldm.system.image_files import open_image

METHODS: tuple[Method, ...] = ("linear", "cubic", "area")  # one of these is drawn for every resizing of the blind degradation


@dataclass(frozen=True)
class Strength:
    """Strength of the blind degradation; `factor` is the downsampling factor.

    Args:
        blurs: number of blurs.
        anisotropic_sizes, isotropic_sizes: kernel sizes: first, last and step.
        divisor: divisor of the largest variances (4 + factor) and the largest sigma (2 + 0.2 factor).
        resize_probability: probability of downsampling by resizing instead of blurring and subsampling.
        noise: range of the standard deviation, of 255.
        quality: range of the JPEG quality.
    """

    blurs: int
    anisotropic_sizes: tuple[int, int, int]
    isotropic_sizes: tuple[int, int, int]
    divisor: float
    resize_probability: float
    noise: tuple[int, int]
    quality: tuple[int, int]


STRENGTHS = {
    "full": Strength(2, (7, 25, 2), (7, 25, 2), 1, 0.75, (2, 25), (30, 95)),
    "light": Strength(1, (5, 14, 1), (5, 7, 1), 4, 0.8, (1, 2), (80, 95)),
}
HALVING_PROBABILITY = 0.25  # probability, at a factor of 4
FIRST_JPEG_PROBABILITY = 0.9  # probability of a first JPEG before the final one


def reduced_size(image: np.ndarray, factor: int) -> tuple[int, int]:
    """Height and width after downsampling.

    Raises:
        ValueError: not a uint8 image, a factor below 2, or one that does not divide the size.
    """
    if image.dtype != np.uint8 or image.ndim != 3:
        raise ValueError(f"expected a uint8 image (H, W, C), got {image.dtype} {image.shape}")
    integer(factor=factor)
    height, width = image.shape[:2]
    if factor < 2 or height % factor or width % factor:
        raise ValueError(f"an image of {height}x{width} cannot be reduced by a factor of {factor}, which must be 2 or more and divide both")
    return height // factor, width // factor


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Floats, 0 black and 1 white, to the nearest of 256 values."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def bicubic(image: np.ndarray, factor: int = 4) -> np.ndarray:
    """Downsample by antialiased bicubic resampling, as SR3 and the paper (App. E.3.4).

    This is `torch.nn.functional.interpolate(mode="bicubic", antialias=True)`, the same filter as Pillow's BICUBIC and
    TensorFlow's antialiased bicubic resize (Keys' cubic with a = -0.5, widened by the factor). It takes any number of
    channels and rounds once, at the end; Pillow rounds and clips after each axis, which differs by more than 1 of 255 at hard
    edges only (0.01 % of the values of four photographs, by 3 at most).

    Args:
        image: `(H, W, C)` uint8.
        factor: 2 or more; must divide H and W.

    Returns:
        `(H / factor, W / factor, C)` uint8.

    Raises:
        ValueError: another dtype, or a factor that does not divide the size.
    """
    return to_uint8(resize(image.astype(np.float32) / 255, reduced_size(image, factor), "antialiased"))


def bsr(image: np.ndarray, generator: torch.Generator, factor: int = 4, strength: Literal["full", "light"] = "full") -> np.ndarray:
    """Downsample by a random chain of blurs, resizing, noise and JPEG: the variant of BSRGAN that LDM-BSR was trained with.

    At a factor of 4 a quarter of the images is halved first. Then the blurs, a reduction of any size, noise and (most times) a
    JPEG come in random order, with a resizing to the requested size somewhere after the reduction, and a final JPEG.

    The original first crops the image to a multiple of the factor, with height and width exchanged: harmless for squares, wrong for
    anything else. Here nothing is cropped: a size that is not divisible by the factor is refused.

    Args:
        image: `(H, W, 1 or 3)` uint8.
        generator: source of randomness; advances by one draw.
        factor: 2 or more; must divide H and W.
        strength: "full", or "light", which the released model was trained with.

    Returns:
        `(H / factor, W / factor, C)` uint8.

    Raises:
        ValueError: another dtype or number of channels, an unknown strength, or a factor that does not divide the size.
    """
    size = reduced_size(image, factor)
    if image.shape[2] not in (1, 3):
        raise ValueError(f"the blind degradation supports images of 1 or 3 channels (because of JPEG), got {image.shape[2]}")
    if strength not in STRENGTHS:
        raise ValueError(f"strength {strength!r} is unknown: expected one of {', '.join(STRENGTHS)}")
    rng, settings = as_numpy(generator), STRENGTHS[strength]
    x = image.astype(np.float32) / 255
    if factor == 4 and rng.random() < HALVING_PROBABILITY:
        method: Method = METHODS[rng.integers(len(METHODS))] if rng.random() < 0.5 else "antialiased"
        x, factor = resize(x, (x.shape[0] // 2, x.shape[1] // 2), method).clip(0, 1), 2
    for step in random_steps(settings, rng):
        if step == "blur":
            x = random_blur(x, factor, settings, rng)
        elif step == "reduce":
            x = random_reduction(x, factor, settings, rng)
        elif step == "fit":
            x = resize(x, size, METHODS[rng.integers(len(METHODS))])
        elif step == "noise":
            x = add_noise(x, settings, rng)
        elif rng.random() < FIRST_JPEG_PROBABILITY:
            x = jpeg(to_uint8(x), random_quality(settings, rng)).astype(np.float32) / 255
        x = x.clip(0, 1)
    return jpeg(to_uint8(x), random_quality(settings, rng))


def random_steps(strength: Strength, rng: np.random.Generator) -> list[str]:
    """The steps in random order, "fit" after "reduce"."""
    steps = [str(step) for step in rng.permutation(["blur"] * strength.blurs + ["reduce", "fit", "noise", "jpeg"])]
    first, second = sorted((steps.index("reduce"), steps.index("fit")))
    steps[first], steps[second] = "reduce", "fit"
    return steps


def random_blur(x: np.ndarray, factor: int, strength: Strength, rng: np.random.Generator) -> np.ndarray:
    """Blur by an anisotropic or an isotropic Gaussian, with equal probability."""
    if rng.random() < 0.5:
        first, second = rng.random(2) * (4 + factor) / strength.divisor
        return blur(x, anisotropic_kernel(random_size(strength.anisotropic_sizes, rng), (first, second), rng.random() * np.pi))
    sigma = rng.random() * (2 + 0.2 * factor) / strength.divisor
    return blur(x, isotropic_kernel(random_size(strength.isotropic_sizes, rng), sigma))


def random_size(sizes: tuple[int, int, int], rng: np.random.Generator) -> int:
    """A random size from (first, last, step)."""
    first, last, step = sizes
    return int(rng.choice(np.arange(first, last + 1, step)))


def random_reduction(x: np.ndarray, factor: int, strength: Strength, rng: np.random.Generator) -> np.ndarray:
    """Resize by 1 to twice the factor, or blur and take every `factor`-th pixel."""
    height, width = x.shape[:2]
    if rng.random() < strength.resize_probability:
        by = rng.uniform(1, 2 * factor)
        return resize(x, (max(1, int(height / by)), max(1, int(width / by))), METHODS[rng.integers(len(METHODS))])
    # The shift centres the sampled first pixel of a block on the block.
    return blur(x, isotropic_kernel(25, rng.uniform(0.1, 0.6 * factor), shift=(factor - 1) / 2))[::factor, ::factor]


def add_noise(x: np.ndarray, strength: Strength, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise: independent per channel (0.4), grey (0.4), or with random correlation of channels (0.2)."""
    channels, kind = x.shape[2], rng.random()
    level = rng.integers(strength.noise[0], strength.noise[1] + 1) / 255
    if kind < 0.4:
        noise = level * rng.standard_normal((*x.shape[:2], 1))
    elif kind < 0.8:
        noise = level * rng.standard_normal(x.shape)
    else:  # variances U(0, 1) along random axes, of the highest level
        axes = np.linalg.qr(rng.random((channels, channels)))[0]
        noise = strength.noise[1] / 255 * rng.standard_normal(x.shape) * np.sqrt(rng.random(channels)) @ axes
    return (x + noise).astype(np.float32)


def random_quality(strength: Strength, rng: np.random.Generator) -> int:
    """A random JPEG quality."""
    return int(rng.integers(strength.quality[0], strength.quality[1] + 1))


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Encode as JPEG and decode, `(H, W, 1 or 3)` uint8, with the default chroma subsampling of Pillow and OpenCV."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality)
    return np.asarray(open_image(file, ["JPEG"])).reshape(image.shape).copy()
