import numpy as np
import pytest
import torch
from PIL import Image

from ldm.data.blur import anisotropic_kernel, blur, gaussian, isotropic_kernel
from ldm.data.degrade import STRENGTHS, bicubic, bsr, random_steps
from ldm.data.resize import coverage, resize


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photographs() -> list[np.ndarray]:
    data = pytest.importorskip("skimage.data")
    return [np.ascontiguousarray(getattr(data, name)()[40:168, 60:188, :3]) for name in ("astronaut", "coffee", "chelsea", "rocket")]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def test_bicubic_is_the_antialiased_one() -> None:
    for photo in photographs():
        low = bicubic(photo)
        pillow = np.asarray(Image.fromarray(photo).resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
        assert low.shape == (32, 32, 3) and low.dtype == np.uint8
        assert abs(pillow - low).mean() < 0.2 and abs(pillow - low).max() <= 3
        aliased = resize(photo.astype(np.float32), (32, 32), "cubic")
        assert psnr(pillow, low) > psnr(pillow, aliased) + 10


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("shape,factor", [((128, 128, 3), 4), ((32, 96, 3), 4), ((8, 8, 3), 4), ((64, 48, 1), 2), ((36, 24, 3), 3)])
def test_the_blind_degradation_has_the_size_and_follows_its_generator(strength, shape: tuple[int, ...], factor: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    before = image.copy()
    for seed in range(12):
        low = bsr(image, rng(seed), factor, strength)
        assert low.shape == (shape[0] // factor, shape[1] // factor, shape[2]) and low.dtype == np.uint8
        assert np.array_equal(low, bsr(image, rng(seed), factor, strength))
    assert np.array_equal(image, before)
    if min(shape[:2]) > 8:
        assert not np.array_equal(low, bsr(image, rng(99), factor, strength))


def test_light_is_nearer_to_bicubic_than_full() -> None:
    mean = {s: np.mean([psnr(bsr(p, rng(i), 4, s), bicubic(p)) for p in photographs() for i in range(10)]) for s in STRENGTHS}
    assert mean["light"] > mean["full"] + 2
    assert mean["full"] > 15  # the picture is still there, in its place


def test_nothing_moves_the_picture() -> None:
    ramp = np.repeat(np.linspace(40, 215, 128).astype(np.uint8)[None, :, None], 128, axis=0).repeat(3, axis=2)
    low = np.mean([bsr(ramp, rng(seed), 4, "light") for seed in range(60)], axis=0)[8:-8, 8:-8]
    expected = bicubic(ramp)[8:-8, 8:-8]
    slope = (215 - 40) / 32  # per low-resolution pixel
    assert abs((low - expected).mean()) < 0.1 * slope


def test_the_steps_come_in_any_order_but_fit_after_reduce() -> None:
    generator = np.random.default_rng(0)
    orders = {tuple(random_steps(STRENGTHS["full"], generator)) for _ in range(2000)}
    assert len(orders) == 180  # 6! / 2! for the two blurs / 2 for the pair
    assert all(steps.index("reduce") < steps.index("fit") for steps in orders)


@pytest.mark.parametrize("call", [lambda image: bicubic(image, 4), lambda image: bsr(image, rng(0), 4)])
def test_a_factor_that_does_not_divide_is_named(call) -> None:
    with pytest.raises(ValueError, match="30x64 cannot be reduced by a factor of 4"):
        call(np.zeros((30, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="expected a uint8 image"):
        call(np.zeros((32, 64, 3), np.float32))


def test_what_the_blind_degradation_does_not_take_is_named() -> None:
    with pytest.raises(ValueError, match="1 or 3 channels.*got 4"):
        bsr(np.zeros((32, 32, 4), np.uint8), rng(0))
    with pytest.raises(ValueError, match="strength 'heavy' is unknown: expected one of full, light"):
        bsr(np.zeros((32, 32, 3), np.uint8), rng(0), strength="heavy")  # type: ignore[arg-type]


@pytest.mark.parametrize("old,new", [(8, 2), (10, 4), (7, 5), (4, 9)])
def test_area_averages_exactly(old: int, new: int) -> None:
    weights = coverage(old, new)
    assert weights.shape == (new, old) and np.allclose(weights.sum(1), 1) and np.allclose(weights.sum(0), new / old)
    image = np.random.default_rng(0).random((old, old, 3)).astype(np.float32)
    assert np.allclose(resize(image, (new, new), "area").mean((0, 1)), image.mean((0, 1)), atol=1e-5)


def test_kernels_sum_to_one_and_blurring_keeps_a_flat_image() -> None:
    kernels = [
        isotropic_kernel(6, 1.0),
        isotropic_kernel(25, 2.4, shift=1.5),
        anisotropic_kernel(9, (8.0, 0.0), 0.7),
        gaussian(5, np.eye(2)),
    ]
    for kernel in kernels:
        assert kernel.sum() == pytest.approx(1) and (kernel >= 0).all()
        assert np.allclose(blur(np.full((11, 13, 3), 0.3, np.float32), kernel), 0.3, atol=1e-6)
    dot = np.zeros((15, 15, 1), np.float32)
    dot[7, 7] = 1
    for size in (5, 6):  # an even window moves nothing
        spread = blur(dot, isotropic_kernel(size, 0.8))[..., 0]
        assert np.unravel_index(spread.argmax(), spread.shape) == (7, 7)
        assert spread[7, 6] == pytest.approx(spread[7, 8], abs=1e-6)
