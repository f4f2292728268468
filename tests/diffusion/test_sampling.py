"""Samplers on data with a known optimal denoiser: z_0 ~ N(m, s^2)."""

import math

import pytest
import torch
from torch import Tensor

from ldm.diffusion import Guidance, Prediction, classifier_free, cosine, scaled_linear
from ldm.diffusion.guidance import Denoise
from ldm.diffusion.sampling import SAMPLERS, Hooks, ddim, ddpm, original_quadratic, original_uniform, uniform
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


EVALUATIONS = {"plms": lambda S: S + 1, "heun": lambda S: 2 * S - 1}  # every other sampler: one per step


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
        assert len(calls) == EVALUATIONS.get(name, lambda S: S)(steps)
        assert sorted(set(calls), reverse=True) == uniform(50, steps)[:-1]
        assert torch.isfinite(z).all()


def solution(schedule: NoiseSchedule, z: Tensor, t: int, s: int) -> Tensor:
    """The probability-flow ODE of Gaussian data, solved in closed form from time t to s."""

    def at(time: int) -> tuple[Tensor, Tensor]:
        index = torch.full((len(z),), time)
        alpha, sigma = schedule.alpha(index, z), schedule.sigma(index, z)
        return alpha * MEAN, (alpha**2 * STD**2 + sigma**2).sqrt()

    (mean_t, std_t), (mean_s, std_s) = at(t), at(s)
    return mean_s + std_s / std_t * (z - mean_t)


class Exact(NoiseSchedule):
    """The same schedule in float64, where float32 would hide the order."""

    def _at(self, table: Tensor, t: Tensor, like: Tensor) -> Tensor:
        alpha_squared = torch.cat([torch.ones(1).double(), torch.cumprod(1 - self.exact.double(), 0)])
        exact = alpha_squared.sqrt() if table is self._alpha else (1 - alpha_squared).sqrt()
        return exact[t + 1].view(-1, *[1] * (like.ndim - 1))


@pytest.mark.parametrize("name,order", [("ddim", 1), ("plms", 2), ("heun", 2), ("dpm_solver", 2), ("unipc", 2)])
def test_order_of_convergence(name: str, order: int) -> None:
    """Halving the steps multiplies the error by 2^order (more is better, and PLMS and UniPC do more)."""
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 20000, dtype=torch.float64) ** 2 / 20
    schedule = Exact(betas)
    schedule.exact = betas
    first, last = 16000, 4000  # away from both ends, where the curvature is that of the ends
    z = start(64).double()
    expected = solution(schedule, z, first, last)
    errors = []
    for steps in (80, 160, 320):
        times = [first - i * (first - last) // steps for i in range(steps + 1)]
        got = SAMPLERS[name](optimal(schedule), z, schedule, times, noise=noise_source(0))
        errors.append(float((got - expected).square().mean().sqrt()))
    orders = [torch.log2(torch.tensor(a / b)).item() for a, b in zip(errors, errors[1:], strict=False)]
    assert all(measured > order - 0.15 for measured in orders), (orders, errors)
    if name in ("ddim", "heun", "dpm_solver"):
        assert all(measured < order + 0.5 for measured in orders), (orders, errors)


@pytest.mark.parametrize("name", ["plms", "heun", "dpm_solver", "unipc"])
def test_faster_samplers_are_closer_at_few_steps_than_ddim(name: str) -> None:
    schedule = scaled_linear()
    z, times = start(256), uniform(1000, 20)[:-2]
    expected = solution(schedule, z, times[0], times[-1])
    errors = [
        float((SAMPLERS[n](optimal(schedule), z, schedule, times, noise=noise_source(0)) - expected).abs().mean()) for n in (name, "ddim")
    ]
    assert errors[0] < 0.6 * errors[1]


def test_the_originals_spacing() -> None:
    assert original_uniform(1000, 10) == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1, 0]
    assert len(original_uniform(1000, 7)) - 1 == 8  # 142 does not divide 1000: one step more
    for steps in (3, 9, 27, 36, 101, 300, 501, 1000):
        with pytest.raises(ValueError, match="original spacing"):
            original_uniform(1000, steps)
    assert original_quadratic(1000, 10)[0] == 801 and original_quadratic(1000, 10)[-2:] == [1, 0]


def test_one_step_returns_the_predicted_clean_latent() -> None:
    schedule = cosine()
    z_T = start(8)
    z = ddim(optimal(schedule), z_T, schedule, uniform(schedule.T, 1), noise=noise_source(0))
    expected = optimal(schedule)(z_T, torch.full((8,), schedule.T - 1)).z_0
    torch.testing.assert_close(z, expected)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 333, 999, 1000])
def test_uniform_times(steps: int) -> None:
    times = uniform(1000, steps)
    assert len(times) == steps + 1 and times[0] == 999 and times[-1] == -1 and times[-2] >= 0
    gaps = torch.tensor(times).diff().abs()
    assert steps == 1 or int(gaps.max() - gaps.min()) <= 1
    if steps == 1000:
        assert times == list(range(999, -2, -1))


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
    z = ddim(optimal(schedule), start(4), schedule, uniform(schedule.T, 10), noise=refuse)
    assert torch.isfinite(z).all()


def test_guidance_at_scale_1_is_the_condition_and_beyond_is_linear() -> None:
    schedule = cosine()
    cond, null = optimal(schedule, 1.0), optimal(schedule, -1.0)
    calls = []

    def both(z: Tensor, t: Tensor) -> Prediction:
        calls.append(len(z))
        halves = [d(a, b) for d, a, b in zip((cond, null), z.chunk(2), t.chunk(2), strict=True)]
        return Prediction(*(torch.cat(views) for views in zip(*halves, strict=True)))

    z, t = start(5), torch.full((5,), 500)
    torch.testing.assert_close(classifier_free(both, cond, Guidance(1.0), schedule)(z, t), cond(z, t))
    guided = classifier_free(both, cond, Guidance(3.0), schedule)(z, t)
    torch.testing.assert_close(guided.eps, null(z, t).eps + 3 * (cond(z, t).eps - null(z, t).eps))
    assert calls == [10, 10]  # one batched call each
    alpha, sigma = schedule.alpha(t, z), schedule.sigma(t, z)
    torch.testing.assert_close(alpha * guided.z_0 + sigma * guided.eps, z, atol=1e-5, rtol=1e-5)


def test_a_hook_can_hold_a_region() -> None:
    schedule = cosine()
    known = torch.full((3, 1, 1, 1), 0.5)

    def hold(z: Tensor, t: int) -> Tensor:
        return schedule.add_noise(known, torch.full((3,), t), torch.zeros_like(known))

    z = ddim(optimal(schedule), start(3), schedule, uniform(1000, 50), noise=noise_source(0), hooks=Hooks(before=hold))
    assert float((z - known).abs().max()) < 0.05


WEIGHTS, MEANS, STDS = (0.3, 0.7), (-1.0, 0.8), (0.1, 0.25)


def optimal_of_mixture(schedule: NoiseSchedule) -> Denoise:
    """E[z_0 | z_t] for a mixture of two Gaussians, in closed form: not linear in z_t, so samplers cannot be exact by luck."""

    def denoise(z_t: Tensor, t: Tensor) -> Prediction:
        alpha, sigma = schedule.alpha(t, z_t), schedule.sigma(t, z_t)
        logs, means = [], []
        for weight, mean, std in zip(WEIGHTS, MEANS, STDS, strict=True):
            variance = alpha**2 * std**2 + sigma**2
            logs.append(math.log(weight) - 0.5 * variance.log() - (z_t - alpha * mean) ** 2 / (2 * variance))
            means.append(mean + std**2 * alpha / variance * (z_t - alpha * mean))
        share = torch.softmax(torch.stack(logs), dim=0)
        z_0 = (share * torch.stack(means)).sum(0)
        return Prediction(eps=(z_t - alpha * z_0) / sigma, z_0=z_0)

    return denoise


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    "schedule", [cosine(), scaled_linear(1000, 0.0015, 0.0195), cosine(zero_terminal_snr=True)], ids=["cosine", "paper", "zero"]
)
def test_reaches_a_mixture(name: str, schedule: NoiseSchedule) -> None:
    """Share, mean and width of both modes, and the distance between the distribution functions."""
    if schedule.zero_terminal_snr and name in ("plms", "heun"):
        pytest.skip("these divide by alpha; generate refuses them on such schedules")
    n, steps = 8000, 1000 if name == "ddpm" else 250  # its variance is the lower bound, exact only for small steps
    z = SAMPLERS[name](optimal_of_mixture(schedule), start(n), schedule, uniform(schedule.T, steps), noise=noise_source(5)).flatten()
    left = z < -0.4
    assert abs(float(left.float().mean()) - WEIGHTS[0]) < 0.025
    for mode, mean, std in zip((z[left], z[~left]), MEANS, STDS, strict=True):
        assert abs(float(mode.mean()) - mean) < 0.02 and abs(float(mode.std()) - std) < 0.025
    exact = sum(w * torch.distributions.Normal(m, s).cdf(z.sort().values) for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True))
    distance = float((exact - torch.arange(1, n + 1) / n).abs().max())
    assert distance < 0.03, distance


def test_guidance_in_an_interval_and_with_rescaling() -> None:
    schedule = cosine()
    cond, null = optimal(schedule, 1.0), optimal(schedule, -1.0)

    def both(z: Tensor, t: Tensor) -> Prediction:
        halves = [d(a, b) for d, a, b in zip((cond, null), z.chunk(2), t.chunk(2), strict=True)]
        return Prediction(*(torch.cat(views) for views in zip(*halves, strict=True)))

    z = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    sometimes = classifier_free(both, cond, Guidance(3.0, (0.2, 0.6)), schedule)
    always = classifier_free(both, cond, Guidance(3.0), schedule)
    for time, guided in ((100, False), (300, True), (700, False)):
        t = torch.full((5,), time)
        torch.testing.assert_close(sometimes(z, t), (always if guided else cond)(z, t))
    t = torch.full((5,), 500)
    rescaled = classifier_free(both, cond, Guidance(3.0, rescale=1.0), schedule)(z, t)
    torch.testing.assert_close(rescaled.z_0.std((1, 2, 3)), cond(z, t).z_0.std((1, 2, 3)), rtol=1e-4, atol=0)
    alpha, sigma = schedule.alpha(t, z), schedule.sigma(t, z)
    torch.testing.assert_close(alpha * rescaled.z_0 + sigma * rescaled.eps, z, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("wrong", [{"interval": (0.5, 0.5)}, {"interval": (-0.1, 1.0)}, {"rescale": 1.5}])
def test_impossible_guidance_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="interval|rescale"):
        Guidance(2.0, **wrong)


@pytest.mark.parametrize("name", SAMPLERS)
def test_hooks_see_every_step_of_every_sampler(name: str) -> None:
    schedule, seen = scaled_linear(100), []

    def before(z: Tensor, t: int) -> Tensor:
        seen.append(("before", t))
        return z

    def after(z: Tensor, z_0: Tensor, t: int) -> Tensor:
        seen.append(("after", t))
        assert z.shape == z_0.shape
        return z

    times = uniform(100, 7)
    SAMPLERS[name](optimal(schedule), start(2), schedule, times, noise=noise_source(0), hooks=Hooks(before, after))
    assert seen == [(when, t) for t in times[:-1] for when in ("before", "after")]
