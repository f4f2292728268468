"""Every sampler over every process, on data whose optimal denoiser is known in closed form."""

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ldm.diffusion import (
    EDM,
    DiscreteProcess,
    Guidance,
    Prediction,
    Process,
    RectifiedFlow,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
    autoguidance,
    classifier_free,
    cosine,
    scaled_linear,
)
from ldm.diffusion.guidance import Denoise
from ldm.diffusion.process.spacing import original_quadratic, original_uniform, uniform
from ldm.diffusion.sampling import SAMPLERS, Hooks, Noise, ddim, ddpm, euler, heun
from ldm.errors import UserError
from ldm.sampling.generate import SamplerSettings

MEAN, STD = 0.8, 0.3
PROCESSES: dict[str, Callable[[], Process]] = {
    "cosine": cosine,
    "paper": lambda: scaled_linear(1000, 0.0015, 0.0195),
    "zero": lambda: cosine(zero_terminal_snr=True),
    "flow": RectifiedFlow,
    "shifted-flow": lambda: RectifiedFlow(shift=3.0),
    "trigonometric": Trigonometric,
    "vp": VariancePreserving,
    "edm": EDM,
    "ve": VarianceExploding,
}
NEEDS_ALPHA = {("zero", "plms"), ("zero", "euler"), ("zero", "heun"), ("flow", "plms"), ("shifted-flow", "plms"), ("trigonometric", "plms")}
PAIRS = [(process, sampler) for process in PROCESSES for sampler in SAMPLERS]
WORKING = [pair for pair in PAIRS if pair not in NEEDS_ALPHA]


def optimal(process: Process, mean: float = MEAN, std: float = STD) -> Denoise:
    """E[z_0 | z_t] for Gaussian data."""

    def denoise(z_t: Tensor, t: float) -> Prediction:
        alpha, sigma = process.alpha(t, z_t), process.sigma(t, z_t)
        z_0 = mean + std**2 * alpha / (alpha**2 * std**2 + sigma**2) * (z_t - alpha * mean)
        return Prediction(eps=(z_t - alpha * z_0) / sigma, z_0=z_0)

    return denoise


WEIGHTS, MEANS, STDS = (0.3, 0.7), (-1.0, 0.8), (0.1, 0.25)


def optimal_of_mixture(process: Process) -> Denoise:
    """E[z_0 | z_t] for a mixture of two Gaussians: not linear in z_t, so samplers cannot be exact by luck."""

    def denoise(z_t: Tensor, t: float) -> Prediction:
        alpha, sigma = process.alpha(t, z_t), process.sigma(t, z_t)
        logs, means = [], []
        for weight, mean, std in zip(WEIGHTS, MEANS, STDS, strict=True):
            variance = alpha**2 * std**2 + sigma**2
            logs.append(math.log(weight) - 0.5 * variance.log() - (z_t - alpha * mean) ** 2 / (2 * variance))
            means.append(mean + std**2 * alpha / variance * (z_t - alpha * mean))
        share = torch.softmax(torch.stack(logs), dim=0)
        z_0 = (share * torch.stack(means)).sum(0)
        return Prediction(eps=(z_t - alpha * z_0) / sigma, z_0=z_0)

    return denoise


def noise_source(seed: int) -> Noise:
    generator = torch.Generator().manual_seed(seed)
    return lambda z: torch.randn(z.shape, generator=generator)


def start(n: int = 4000) -> Tensor:
    return torch.randn(n, 1, 1, 1, generator=torch.Generator().manual_seed(1))


def times_of(process: Process, steps: int) -> list[float]:
    return list(process.spacings()["uniform"](steps))


def run(sampler: str, denoise: Denoise, process: Process, steps: int, n: int, seed: int = 0) -> Tensor:
    return SAMPLERS[sampler](denoise, process.begin(start(n)), process, times_of(process, steps), noise=noise_source(seed))


@pytest.mark.parametrize("process,sampler", WORKING)
def test_reaches_a_mixture(process: str, sampler: str) -> None:
    """Share, mean and width of both modes, and the distance between the distribution functions."""
    made = PROCESSES[process]()
    n, steps = 8000, 1000 if sampler == "ddpm" else 250  # its variance is the lower bound, exact only for small steps
    z = run(sampler, optimal_of_mixture(made), made, steps, n, seed=5).flatten()
    left = z < -0.4
    assert abs(float(left.float().mean()) - WEIGHTS[0]) < 0.025
    for mode, mean, std in zip((z[left], z[~left]), MEANS, STDS, strict=True):
        assert abs(float(mode.mean()) - mean) < 0.02 and abs(float(mode.std()) - std) < 0.025
    exact = sum(w * torch.distributions.Normal(m, s).cdf(z.sort().values) for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True))
    distance = float((exact - torch.arange(1, n + 1) / n).abs().max())
    assert distance < 0.03, distance


@pytest.mark.parametrize("process,sampler", sorted(NEEDS_ALPHA))
def test_what_a_sampler_cannot_do_is_refused_by_name(process: str, sampler: str) -> None:
    made = PROCESSES[process]()
    with pytest.raises(ValueError, match=f"sampler {sampler} divides by alpha, which is 0 at the first time of this process"):
        run(sampler, optimal(made), made, 4, 2)
    with pytest.raises(UserError, match=f"sampler {sampler}"):
        SamplerSettings(sampler, 4).check(made)


@pytest.mark.parametrize("process,sampler", WORKING)
def test_what_it_can_do_is_not_refused(process: str, sampler: str) -> None:
    for steps in (1, 2, 50):
        SamplerSettings(sampler, steps).check(PROCESSES[process]())


EVALUATIONS = {"plms": lambda S: S + 1, "heun": lambda S: 2 * S - 1}  # every other sampler: one per step


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("process", [scaled_linear(50), VariancePreserving(), EDM()], ids=["discrete", "vp", "edm"])
def test_takes_exactly_the_asked_steps_and_ends_on_clean_data(process: Process, sampler: str) -> None:
    inner = optimal(process)
    for steps in (1, 2, 3, 4, 7, 26, 49, 50):
        calls: list[float] = []

        def counted(z: Tensor, t: float, calls: list[float] = calls) -> Prediction:
            calls.append(t)
            return inner(z, t)

        z = SAMPLERS[sampler](counted, process.begin(start(4)), process, times_of(process, steps), noise=noise_source(0))
        assert len(calls) == EVALUATIONS.get(sampler, lambda S: S)(steps)
        assert sorted(set(calls), reverse=True) == times_of(process, steps)[:-1]
        assert torch.isfinite(z).all()


def solution(process: Process, z: Tensor, t: float, s: float) -> Tensor:
    """The probability-flow ODE of Gaussian data, solved in closed form from time t to s."""
    (mean_t, std_t), (mean_s, std_s) = (
        (at.alpha * MEAN, (at.alpha**2 * STD**2 + at.sigma**2).sqrt()) for at in (process.at(t, z), process.at(s, z))
    )
    return mean_s + std_s / std_t * (z - mean_t)


class Exact(DiscreteProcess):
    """The same process with float64 tables, where float32 would hide the order."""

    def __init__(self) -> None:
        super().__init__(torch.linspace(0.0015**0.5, 0.0195**0.5, 20000, dtype=torch.float64) ** 2 / 20)
        squared = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - self.betas, 0)])
        self._alpha, self._sigma = squared.sqrt(), (1 - squared).sqrt()


RANGES = {"discrete": (16000, 4000), "flow": (0.9, 0.1), "trigonometric": (0.9, 0.1), "vp": (0.8, 0.2), "edm": (10.0, 0.1)}
exact_process = cache(lambda name: {"discrete": Exact, **PROCESSES}[name]())


@pytest.mark.parametrize("process", RANGES)
@pytest.mark.parametrize("sampler,order", [("ddim", 1), ("euler", 1), ("plms", 2), ("heun", 2), ("dpm_solver", 2), ("unipc", 2)])
def test_order_of_convergence(process: str, sampler: str, order: int) -> None:
    """Halving the steps divides the error by 2^order (more is better, and PLMS and UniPC do more).

    Away from both ends, where the curvature is that of the ends; in steps that are even in the time of the process, in sigma^(1/7) for
    EDM.
    """
    made = exact_process(process)
    first, last = RANGES[process]
    z = start(64).double() * (10.0 if process == "edm" else 1.0)
    expected = solution(made, z, first, last)
    bend = 7.0 if process == "edm" else 1.0
    errors = []
    for steps in (80, 160, 320):
        times = [(first ** (1 / bend) + i / steps * (last ** (1 / bend) - first ** (1 / bend))) ** bend for i in range(steps + 1)]
        times = [round(t) for t in times] if process == "discrete" else [first, *times[1:-1], last]
        got = SAMPLERS[sampler](optimal(made), z, made, times, noise=noise_source(0))
        errors.append(float((got - expected).square().mean().sqrt()))
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(measured > order - 0.15 for measured in orders), (orders, errors)
    if process == "discrete" and sampler in ("ddim", "euler", "heun", "dpm_solver"):
        assert all(measured < order + 0.5 for measured in orders), (orders, errors)


@pytest.mark.parametrize("sampler", ["plms", "heun", "dpm_solver", "unipc"])
def test_faster_samplers_are_closer_at_few_steps_than_ddim(sampler: str) -> None:
    process = scaled_linear()
    z, times = start(256), uniform(1000, 20)[:-2]
    expected = solution(process, z, times[0], times[-1])
    errors = [
        float((SAMPLERS[n](optimal(process), z, process, times, noise=noise_source(0)) - expected).abs().mean()) for n in (sampler, "ddim")
    ]
    assert errors[0] < 0.6 * errors[1]


@pytest.mark.parametrize("process", ["paper", "flow", "edm"])
def test_euler_is_ddim_where_the_ode_is_straight_between_steps(process: str) -> None:
    """For rectified flow both go along z_s = (1 - s) z_0 + s eps; for the others they step in the same coordinates."""
    made = PROCESSES[process]()
    results = [run(sampler, optimal_of_mixture(made), made, 13, 64) for sampler in ("euler", "ddim")]
    torch.testing.assert_close(*results, atol=2e-5, rtol=1e-4)


def test_heun_with_churn_still_reaches_the_distribution_and_only_edm_has_it() -> None:
    process = EDM()
    z = heun(optimal(process), process.begin(start()), process, times_of(process, 40), noise=noise_source(2), churn=10.0)
    assert abs(float(z.mean()) - MEAN) < 0.02 and abs(float(z.std()) - STD) < 0.02
    plain = heun(optimal(process), process.begin(start()), process, times_of(process, 40), noise=noise_source(2))
    assert not torch.equal(z, plain)
    nowhere = heun(
        optimal(process),
        process.begin(start()),
        process,
        times_of(process, 40),
        noise=noise_source(2),
        churn=10.0,
        churn_between=(90.0, 99.0),
    )
    assert torch.equal(nowhere, plain)
    with pytest.raises(ValueError, match="unlike RectifiedFlow"):
        heun(optimal(RectifiedFlow()), start(2), RectifiedFlow(), [1.0, 0.0], noise=noise_source(0), churn=1.0)


def test_a_second_evaluation_at_the_clean_time() -> None:
    """The trapezoidal rule to the very end, with a network that has a velocity there: dz/dt = t is integrated without error."""
    process, asked = RectifiedFlow(), []

    def denoise(z: Tensor, t: float) -> Prediction:
        asked.append(t)
        velocity = torch.full_like(z, t)
        return Prediction(eps=z + (1 - t) * velocity, z_0=z - t * velocity)

    z = heun(denoise, start(3), process, [1.0, 0.5, 0.0], noise=noise_source(0), at_clean=True)
    torch.testing.assert_close(z, start(3) - 0.5)
    assert asked == [1.0, 0.5, 0.5, 0.0]


def test_the_originals_spacing() -> None:
    assert original_uniform(1000, 10) == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1, 0]
    assert len(original_uniform(1000, 7)) - 1 == 8  # 142 does not divide 1000: one step more
    for steps in (3, 9, 27, 36, 101, 300, 501, 1000):
        with pytest.raises(ValueError, match="original spacing"):
            original_uniform(1000, steps)
    assert original_quadratic(1000, 10)[0] == 801 and original_quadratic(1000, 10)[-2:] == [1, 0]


def test_one_step_returns_the_predicted_clean_latent() -> None:
    process = cosine()
    z_T = start(8)
    z = ddim(optimal(process), z_T, process, uniform(1000, 1), noise=noise_source(0))
    torch.testing.assert_close(z, optimal(process)(z_T, 999).z_0)


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
    process = scaled_linear(100)
    times = uniform(100, 100)
    a = ddpm(optimal(process), start(64), process, times, noise=noise_source(3))
    b = ddim(optimal(process), start(64), process, times, noise=noise_source(3), eta=1.0)
    torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)


def test_samplers_without_noise_ask_for_none() -> None:
    def refuse(z: Tensor) -> Tensor:
        raise AssertionError("asked for noise")

    process = cosine()
    for sampler in (ddim, euler, heun):
        assert torch.isfinite(sampler(optimal(process), start(4), process, uniform(1000, 10), noise=refuse)).all()


def halves_of(cond: Denoise, null: Denoise, calls: list[int]) -> Denoise:
    """The denoiser of 2B latents that guidance asks."""

    def both(z: Tensor, t: float) -> Prediction:
        calls.append(len(z))
        halves = [d(part, t) for d, part in zip((cond, null), z.chunk(2), strict=True)]
        return Prediction(*(torch.cat(views) for views in zip(*halves, strict=True)))

    return both


@pytest.mark.parametrize("process,t", [(cosine(), 500), (RectifiedFlow(), 0.5), (EDM(), 1.5)], ids=["discrete", "flow", "edm"])
def test_guidance_at_scale_1_is_the_condition_and_beyond_is_linear(process: Process, t: float) -> None:
    cond, null, calls = optimal(process, 1.0), optimal(process, -1.0), list[int]()
    both, z = halves_of(cond, null, calls), start(5)
    torch.testing.assert_close(classifier_free(both, cond, Guidance(1.0), process)(z, t), cond(z, t))
    guided = classifier_free(both, cond, Guidance(3.0), process)(z, t)
    torch.testing.assert_close(guided.eps, null(z, t).eps + 3 * (cond(z, t).eps - null(z, t).eps))
    assert calls == [10, 10]  # one batched call each
    torch.testing.assert_close(autoguidance(cond, null, Guidance(3.0), process)(z, t), guided)
    alpha, sigma = process.alpha(t, z), process.sigma(t, z)
    torch.testing.assert_close(alpha * guided.z_0 + sigma * guided.eps, z, atol=1e-5, rtol=1e-5)


def test_a_hook_can_hold_a_region() -> None:
    process = cosine()
    known = torch.full((3, 1, 1, 1), 0.5)

    def hold(z: Tensor, t: float) -> Tensor:
        return process.add_noise(known, t, torch.zeros_like(known))

    z = ddim(optimal(process), start(3), process, uniform(1000, 50), noise=noise_source(0), hooks=Hooks(before=hold))
    assert float((z - known).abs().max()) < 0.05


@pytest.mark.parametrize("process", ["cosine", "flow", "edm"])
def test_guidance_in_an_interval_and_with_rescaling(process: str) -> None:
    """The interval is of the share of the way from data to noise, where the steps of the process lie evenly."""
    made = PROCESSES[process]()
    cond, null = optimal(made, 1.0), optimal(made, -1.0)
    both = halves_of(cond, null, [])
    z = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    sometimes = classifier_free(both, cond, Guidance(3.0, (0.2, 0.6)), made)
    always = classifier_free(both, cond, Guidance(3.0), made)
    times = times_of(made, 100)
    for share, guided in ((10, False), (30, True), (70, False)):
        torch.testing.assert_close(sometimes(z, times[100 - share]), (always if guided else cond)(z, times[100 - share]))
    t = times[50]
    rescaled = classifier_free(both, cond, Guidance(3.0, rescale=1.0), made)(z, t)
    torch.testing.assert_close(rescaled.z_0.std((1, 2, 3)), cond(z, t).z_0.std((1, 2, 3)), rtol=1e-4, atol=0)
    torch.testing.assert_close(made.alpha(t, z) * rescaled.z_0 + made.sigma(t, z) * rescaled.eps, z, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("wrong", [{"interval": (0.5, 0.5)}, {"interval": (-0.1, 1.0)}, {"rescale": 1.5}])
def test_impossible_guidance_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="interval|rescale"):
        Guidance(2.0, **wrong)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_hooks_see_every_step_of_every_sampler(sampler: str) -> None:
    process, seen = scaled_linear(100), []

    def before(z: Tensor, t: float) -> Tensor:
        seen.append(("before", t))
        return z

    def after(z: Tensor, z_0: Tensor, t: float) -> Tensor:
        seen.append(("after", t))
        assert z.shape == z_0.shape
        return z

    times = uniform(100, 7)
    SAMPLERS[sampler](optimal(process), start(2), process, times, noise=noise_source(0), hooks=Hooks(before, after))
    assert seen == [(when, t) for t in times[:-1] for when in ("before", "after")]
