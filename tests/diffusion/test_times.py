"""How times are drawn in training, against closed forms; and what processes say of them."""

import math
from typing import Any

import pytest
import torch

from ldm.diffusion import EDM, RectifiedFlow, Trigonometric, VariancePreserving, cosine, linear
from ldm.diffusion.process import LogitNormal, LogNormal, LogUniform, Shifted, TimeDistribution, Uniform
from ldm.rng import StepRNG

GRID = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000  # quantiles: their images have the moments of the distribution


def expectation(density, power: int, low: float = 0.0, high: float = 1.0) -> float:
    t = torch.linspace(low, high, 2_000_001, dtype=torch.float64)[1:-1]
    return float((t**power * density(t)).mean() * (high - low))


@pytest.mark.parametrize("mean,std", [(0.0, 1.0), (0.5, 0.6)])
def test_logit_normal(mean: float, std: float) -> None:
    def density(t: torch.Tensor) -> torch.Tensor:
        """Esser et al. (2024), Eq. 19."""
        logit = torch.log(t / (1 - t))
        return torch.exp(-((logit - mean) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi) * t * (1 - t))

    t = LogitNormal(mean, std)(GRID)
    for power in (1, 2, 3):
        assert float((t**power).mean()) == pytest.approx(expectation(density, power), abs=1e-5)


def test_log_normal() -> None:
    t = LogNormal(-1.2, 1.2)(GRID)
    assert float(t.log().mean()) == pytest.approx(-1.2, abs=1e-4) and float(t.log().std()) == pytest.approx(1.2, abs=1e-3)
    assert float(t.median()) == pytest.approx(math.exp(-1.2), rel=1e-3)


def test_uniform_and_log_uniform() -> None:
    t = Uniform(0.001, 0.999)(GRID)
    assert float(t.mean()) == pytest.approx(0.5) and float(t.var()) == pytest.approx(0.998**2 / 12, rel=1e-4)
    t = LogUniform(0.02, 100.0)(GRID)
    assert float(t.mean()) == pytest.approx((100.0 - 0.02) / math.log(100.0 / 0.02), rel=1e-4)
    assert float(t.min()) >= 0.02 and float(t.max()) <= 100.0


def test_shifted() -> None:
    """The density of t = k u / (1 + (k - 1) u) is k / (k - (k - 1) t)^2: the median u = 1/2 goes to k / (k + 1)."""
    t = Shifted(Uniform(), 3.0)(GRID)
    for power in (1, 2):
        assert float((t**power).mean()) == pytest.approx(expectation(lambda t: 3.0 / (3.0 - 2.0 * t) ** 2, power), abs=1e-5)
    assert float(t.median()) == pytest.approx(0.75, abs=1e-4)
    assert torch.equal(Shifted(LogitNormal(), 1.0)(GRID), LogitNormal()(GRID))


@pytest.mark.parametrize("process", [RectifiedFlow(LogitNormal()), Trigonometric(), EDM(), VariancePreserving()])
def test_times_are_counted_finite_and_of_the_process(process) -> None:
    def drawn(step: int, *ids: str) -> torch.Tensor:
        return process.draw_times(StepRNG(3, step, ids), torch.device("cpu"))

    t = drawn(5, *map(str, range(500)))
    assert t.shape == (500,) and t.dtype == torch.float32 and bool((t > 0).all()) and torch.isfinite(process.network_time(t)).all()
    assert torch.equal(drawn(5, "7", "3"), t[[7, 3]]) and not torch.equal(drawn(6, "7", "3"), t[[7, 3]])
    assert torch.isfinite(LogitNormal()(torch.tensor([0.0, 1.0 - 1e-16]))).all()  # the ends of what a generator gives


def test_what_the_network_is_told() -> None:
    t = torch.tensor([0.25, 1.0])
    assert RectifiedFlow().network_time(t).tolist() == [250.0, 1000.0]
    assert RectifiedFlow(time_scale=1.0, time_reversed=True).network_time(t).tolist() == [0.75, 0.0]
    torch.testing.assert_close(EDM().network_time(torch.tensor([1.0, math.e**4])), torch.tensor([0.0, 1.0]))
    assert cosine().network_time(torch.tensor([3])).tolist() == [3]


def test_steps_of_continuous_processes() -> None:
    for process in (RectifiedFlow(), RectifiedFlow(shift=1.7), VariancePreserving(), EDM()):
        for steps in (1, 2, 17):
            times = process.spacings()["uniform"](steps)
            assert len(times) == steps + 1 and times[0] == process.first and times[-1] == process.clean
            assert all(a > b for a, b in zip(times, times[1:], strict=False))
            assert process.fraction(times[0]) == 1.0 and process.fraction(times[-1]) == 0.0
    assert RectifiedFlow(shift=3.0).spacings()["uniform"](2)[1] == pytest.approx(0.75)
    assert [round(t, 4) for t in EDM().spacings()["karras"](3)] == [80.0, 2.5152, 0.002, 0.0]  # Karras et al. (2022), Eq. 5


def test_the_same_process_is_recognised() -> None:
    for same, other in (
        (cosine(), cosine(zero_terminal_snr=True)),
        (linear(), linear(end=0.0201)),
        (linear(), linear(500)),
        (RectifiedFlow(), Trigonometric()),
        (RectifiedFlow(), RectifiedFlow(time_scale=1.0)),
        (EDM(), EDM(sigma_data=1.0)),
        (EDM(), EDM(sigma_max=60.0)),
    ):
        assert same.same_as(same) and not same.same_as(other) and not other.same_as(same)
    assert RectifiedFlow(LogitNormal(), shift=3.0).same_as(RectifiedFlow())  # how it is trained and sampled is another matter


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: LogitNormal(std=0.0), "std must be a number above 0"),
        (lambda: Uniform(1.0, 0.0), "low must be less than high"),
        (lambda: RectifiedFlow(shift=-1.0), "shift must be"),
        (lambda: EDM(sigma_min=2.0, sigma_max=1.0), "sigma_min must be less than sigma_max"),
        (lambda: VariancePreserving(beta_max=math.inf), "beta_max must be"),
    ],
)
def test_impossible_arguments_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("process", "times"),
    [
        (RectifiedFlow, LogNormal()),  # of sigma, as in EDM
        (RectifiedFlow, Uniform(-1.0, 1.0)),
        (Trigonometric, LogUniform(1.0, 80.0)),
        (VariancePreserving, Uniform(0.0, 1.5)),
        (EDM, Uniform(-3.0, 2.0)),
    ],
)
def test_times_that_a_process_does_not_have_are_refused(process: Any, times: TimeDistribution) -> None:
    with pytest.raises(ValueError, match=f"times must lie .*, but {type(times).__name__} draws"):
        process(times=times)


def test_times_up_to_the_ends_of_a_process_are_its_own() -> None:
    assert (
        RectifiedFlow(times=Shifted(LogitNormal(5.0, 2.0), 3.0)).first == 1.0 and EDM(times=LogNormal(3.0, 2.0), sigma_max=1.0).first == 1.0
    )
