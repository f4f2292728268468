"""Samplers on data with a known optimal denoiser: z_0 ~ N(m, s^2)."""

import pytest
import torch
from torch import Tensor

from ldm.diffusion import Prediction, classifier_free, cosine, scaled_linear
from ldm.diffusion.guidance import Denoise
from ldm.diffusion.sampling import SAMPLERS, ddim, ddpm, uniform
from ldm.diffusion.schedule import NoiseSchedule

MEAN, STD = 0.8, 0.3


def optimal(schedule: NoiseSchedule, mean: float = MEAN, std: float = STD) -> Denoise:
    """E[z_0 | z_t] for Gaussian data, in closed form."""

    def denoise(z_t: Tensor, t: Tensor) -> Prediction:
        alpha, sigma = schedule.alpha(t, z_t), schedule.sigma(t, z_t)
        z_0 = mean + std**2 * alpha / (alpha**2 * std**2 + sigma**2) * (z_t - alpha * mean)
        return Prediction(eps=(z_t - alpha * z_0) / sigma, z_0=z_0)

    return denoise


def noise_source(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda z: torch.randn(z.shape, generator=generator)


def start(n: int = 4000) -> Tensor:
    return torch.randn(n, 1, 1, 1, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SAMPLERS)
def test_reaches_the_distribution(name: str) -> None:
    schedule = cosine()
    z = SAMPLERS[name](optimal(schedule), start(), schedule, uniform(schedule.T, 200), noise=noise_source(0))
    assert abs(float(z.mean()) - MEAN) < 0.02
    assert abs(float(z.std()) - STD) < 0.02


@pytest.mark.parametrize("name", SAMPLERS)
def test_takes_exactly_the_asked_steps_and_ends_on_clean_data(name: str) -> None:
    schedule = scaled_linear(50)
    for steps in range(1, 51):
        calls: list[int] = []
        inner = optimal(schedule)

        def counted(z: Tensor, t: Tensor, calls: list[int] = calls, inner: Denoise = inner) -> Prediction:
            calls.append(int(t[0]))
            return inner(z, t)

        z = SAMPLERS[name](counted, start(4), schedule, uniform(50, steps), noise=noise_source(0))
        assert len(calls) == steps and calls[0] == 49 and calls == sorted(set(calls), reverse=True)
        assert torch.isfinite(z).all()


def test_one_step_returns_the_predicted_clean_latent() -> None:
    schedule = cosine()
    z_T = start(8)
    z = ddim(optimal(schedule), z_T, schedule, uniform(schedule.T, 1), noise=noise_source(0))
    expected = optimal(schedule)(z_T, torch.full((8,), schedule.T - 1)).z_0
    torch.testing.assert_close(z, expected)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 333, 999, 1000])
def test_uniform_times(steps: int) -> None:
    times = uniform(1000, steps)
    assert len(times) == steps and times[0] == 999 and times[-1] >= 0
    gaps = torch.tensor(times).diff().abs()
    assert steps == 1 or int(gaps.max() - gaps.min()) <= 1
    if steps == 1000:
        assert times == list(range(999, -1, -1))


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_steps_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 1000"):
        uniform(1000, steps)


def test_ddim_with_eta_1_is_ancestral_sampling() -> None:
    schedule = scaled_linear(100)
    times = uniform(100, 100)
    a = ddpm(optimal(schedule), start(64), schedule, times, noise=noise_source(3))
    b = ddim(optimal(schedule), start(64), schedule, times, noise=noise_source(3), eta=1.0)
    torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)


def test_ddim_without_eta_asks_for_no_noise() -> None:
    def refuse(z: Tensor) -> Tensor:
        raise AssertionError("asked for noise")

    schedule = cosine()
    ddim(optimal(schedule), start(4), schedule, uniform(schedule.T, 10), noise=refuse)


def test_guidance_at_scale_1_is_the_condition_and_beyond_is_linear() -> None:
    schedule = cosine()
    cond, null = optimal(schedule, 1.0), optimal(schedule, -1.0)
    calls = []

    def both(z: Tensor, t: Tensor) -> Prediction:
        calls.append(len(z))
        halves = [d(a, b) for d, a, b in zip((cond, null), z.chunk(2), t.chunk(2), strict=True)]
        return Prediction(*(torch.cat(views) for views in zip(*halves, strict=True)))

    z, t = start(5), torch.full((5,), 500)
    torch.testing.assert_close(classifier_free(both, 1.0)(z, t), cond(z, t))
    guided = classifier_free(both, 3.0)(z, t)
    torch.testing.assert_close(guided.eps, null(z, t).eps + 3 * (cond(z, t).eps - null(z, t).eps))
    assert calls == [10, 10]  # one batched call each
    alpha, sigma = schedule.alpha(t, z), schedule.sigma(t, z)
    torch.testing.assert_close(alpha * guided.z_0 + sigma * guided.eps, z, atol=1e-5, rtol=1e-5)


def test_before_step_can_hold_a_region() -> None:
    schedule = cosine()
    known = torch.full((3, 1, 1, 1), 0.5)

    def hold(z: Tensor, t: int) -> Tensor:
        return schedule.add_noise(known, torch.full((3,), t), torch.zeros_like(known))

    z = ddim(optimal(schedule), start(3), schedule, uniform(1000, 50), noise=noise_source(0), before_step=hold)
    assert float((z - known).abs().max()) < 0.05
