import math

import pytest
import torch
from torch import Tensor

from ldm.diffusion import (
    EDM,
    PARAMETERIZATIONS,
    DiffusionObjective,
    Process,
    RectifiedFlow,
    Trigonometric,
    VariancePreserving,
    cosine,
    scaled_linear,
    weighting,
)
from ldm.diffusion.weighting import vlb_weights

PROCESSES: dict[str, Process] = {
    "cosine": cosine(),
    "zero": cosine(zero_terminal_snr=True),
    "flow": RectifiedFlow(),
    "trigonometric": Trigonometric(),
    "vp": VariancePreserving(),
    "edm": EDM(),
}
TIMES = {"edm": [0.01, 0.3, 1.0, 5.0, 40.0, 80.0], "cosine": [0, 10, 300, 500, 900, 950], "zero": [0, 10, 300, 500, 900, 999]}
REFUSED = {  # pair -> why
    **{(process, "eps"): "begins with pure noise" for process in ("zero", "flow", "trigonometric")},
    **{(process, "v"): "alpha\\^2 \\+ sigma\\^2 is not 1" for process in ("flow", "edm")},
    **{(process, "velocity"): "has no d_alpha and d_sigma; use one of .*x0, v" for process in ("cosine", "zero")},
    **{(process, "edm"): "has no c_skip and c_out" for process in PROCESSES if process != "edm"},
}


def drawn(process: str) -> tuple[Tensor, Tensor, Tensor]:
    """Clean latents, noise, and times from all over a process."""
    z_0, eps = torch.randn(2, 6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return z_0, eps, torch.tensor(TIMES.get(process, [0.001, 0.1, 0.3, 0.5, 0.9, 1.0]))


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
@pytest.mark.parametrize("process", PROCESSES)
def test_a_network_that_answers_the_target_is_read_back_exactly_or_the_pair_is_refused(process: str, name: str) -> None:
    made, p = PROCESSES[process], PARAMETERIZATIONS[name]
    if why := REFUSED.get((process, name)):
        with pytest.raises(ValueError, match=f"parameterization {name} .*{why}"):
            p.require(made)
        return
    p.require(made)
    z_0, eps, t = drawn(process)
    at = made.at(t, z_0)
    read = p.predict(p.target(z_0, eps, at), made.add_noise(z_0, t, eps), at)
    noisy, clear = at.sigma > 0.01, at.alpha > 0.01  # with little of one of them left, float32 cannot tell it from z_t
    torch.testing.assert_close(read.z_0 * clear, z_0 * clear, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(read.eps * noisy, eps * noisy, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
@pytest.mark.parametrize("process", PROCESSES)
def test_the_factor_from_the_outputs_error_to_that_of_the_clean_latent(process: str, name: str) -> None:
    if (process, name) in REFUSED:
        return
    made, p = PROCESSES[process], PARAMETERIZATIONS[name]
    z_0, eps, t = drawn(process)
    at = made.at(t.double() if t.is_floating_point() else t, z_0.double())
    z_t, target = made.add_noise(z_0.double(), t, eps.double()), p.target(z_0.double(), eps.double(), at)
    moved = (p.predict(target + 0.1, z_t, at).z_0 - p.predict(target, z_t, at).z_0) ** 2
    torch.testing.assert_close(moved, (0.01 * p.to_z_0(at)).expand_as(moved), rtol=1e-4, atol=1e-12)


def test_the_derivatives_are_those_of_alpha_and_sigma() -> None:
    t = torch.tensor([0.1, 0.4, 0.8], dtype=torch.float64)
    like = torch.zeros(3, 1, dtype=torch.float64)
    for process in (RectifiedFlow(), Trigonometric(), VariancePreserving(), EDM()):
        slopes = torch.autograd.functional.jacobian(lambda t, p=process: torch.stack([p.alpha(t, like), p.sigma(t, like)]), t)
        at = process.at(t, like)
        for found, expected in zip((at.d_alpha, at.d_sigma), slopes[:, :, 0].diagonal(dim1=1, dim2=2), strict=True):
            torch.testing.assert_close(found[:, 0], expected)


def test_edms_network_sees_and_answers_unit_variance() -> None:
    """Input and target have variance 1 at every noise level, for latents of standard deviation sigma_data (Karras et al., App. B.6)."""
    process, p = EDM(sigma_data=0.7), PARAMETERIZATIONS["edm"]
    g = torch.Generator().manual_seed(0)
    z_0, eps = (s * torch.randn(5, 1, 200, 200, generator=g) for s in (0.7, 1.0))
    t = torch.tensor([0.002, 0.1, 0.7, 5.0, 80.0])
    for seen in (process.scale_input(process.add_noise(z_0, t, eps), t), p.target(z_0, eps, process.at(t, z_0))):
        torch.testing.assert_close(seen.std((1, 2, 3)), torch.ones(5), atol=0.02, rtol=0)


@pytest.mark.parametrize("loss,expected", [("l2", 4.0), ("l1", 2.0)])
def test_error_per_sample(loss: str, expected: float) -> None:
    z_0 = torch.zeros(3, 1, 2, 2)
    eps = torch.ones_like(z_0)
    error = DiffusionObjective(loss).errors(lambda z, t: eps + 2, z_0, torch.tensor([1, 2, 3]), eps, cosine(), PARAMETERIZATIONS["eps"])
    torch.testing.assert_close(error, torch.full((3,), expected))


def test_the_cosine_term_is_of_channels_and_added() -> None:
    z_0, eps = torch.zeros(2, 2, 3, 3), torch.zeros(2, 2, 3, 3)
    eps[:, 0] = 1.0
    answer = torch.stack([eps[0], eps[1].flip(0)])  # the second one is at right angles
    errors = DiffusionObjective(cosine_weight=0.5).errors(
        lambda z, t: answer, z_0, torch.tensor([1, 1]), eps, cosine(), PARAMETERIZATIONS["eps"]
    )
    torch.testing.assert_close(errors, torch.tensor([0.0, 1.0 + 0.5]))


def same_mistake(process: Process, name: str, t: Tensor) -> Tensor:
    """Error of each target's output where every network is wrong about the clean latent by the same 0.1."""
    p = PARAMETERIZATIONS[name]
    z_0, eps = torch.zeros(len(t), 1, 2, 2), torch.ones(len(t), 1, 2, 2)
    at, z_t = process.at(t, z_0), process.add_noise(z_0, t, eps)
    answer = p.target(z_0 + 0.1, (z_t - at.alpha * (z_0 + 0.1)) / at.sigma, at)
    return DiffusionObjective().errors(lambda z, t: answer, z_0, t, eps, process, p)


WEIGHTINGS = {
    "cosine": [{"min_snr": 5.0}, {"simple_weight": 0.0, "vlb_weight": 1.0}, {"weight": weighting.edm(0.5)}],
    **dict.fromkeys(
        ("flow", "vp", "edm"),
        [{"min_snr": 5.0}, {"weight": weighting.edm(0.5)}, {"weight": weighting.velocity()}, {"weight": weighting.likelihood()}],
    ),
}


@pytest.mark.parametrize("process,options", [(process, options) for process, each in WEIGHTINGS.items() for options in each])
def test_no_weighting_depends_on_what_the_network_predicts(process: str, options: dict) -> None:
    t = torch.tensor({"cosine": [1, 20, 300, 700, 990], "edm": [0.01, 0.3, 1.0, 5.0, 60.0]}.get(process, [0.01, 0.2, 0.5, 0.8, 0.95]))
    made, names = PROCESSES[process], [name for name in PARAMETERIZATIONS if (process, name) not in REFUSED]
    objective = DiffusionObjective(**options)
    losses = [objective(same_mistake(made, name, t), t, made, PARAMETERIZATIONS[name])[0] for name in names]
    assert len(losses) >= 2
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0], rtol=2e-3, atol=0)


def test_min_snr_caps_the_weight_of_little_noise() -> None:
    process, t = scaled_linear(), torch.tensor([1, 20, 300, 700, 998])
    loss, _ = DiffusionObjective(min_snr=5.0)(same_mistake(process, "x0", t), t, process, PARAMETERIZATIONS["x0"])
    weights = (2.0 * process.half_log_snr(t, torch.zeros(5, 1))).exp().clamp(max=5.0)
    torch.testing.assert_close(loss, (weights * 0.01).mean(), rtol=1e-3, atol=0)


def test_edms_weighting_of_its_own_parameterization_is_1() -> None:
    process, t = EDM(sigma_data=0.5), torch.tensor([0.002, 0.5, 3.0, 80.0])
    weights = weighting.edm(0.5)(process.at(t, torch.zeros(4, 1)), PARAMETERIZATIONS["edm"])
    torch.testing.assert_close(weights, torch.ones(4, 1))


def test_weightings_of_continuous_time() -> None:
    """Of the velocity: 1 for the velocity itself. Of the likelihood: minus half the slope of the signal-to-noise ratio for x0."""
    process, t = RectifiedFlow(), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    at = process.at(t, torch.zeros(3, 1, dtype=torch.float64))
    torch.testing.assert_close(weighting.velocity()(at, PARAMETERIZATIONS["velocity"]), torch.ones(3, 1, dtype=torch.float64))
    (slope,) = torch.autograd.grad((((1 - (s := t.clone().requires_grad_())) / s) ** 2).sum(), s)
    torch.testing.assert_close(weighting.likelihood()(at, PARAMETERIZATIONS["x0"])[:, 0], -0.5 * slope)


def test_the_bounds_weight_of_noise_prediction_is_that_of_the_paper_on_ddpm() -> None:
    """beta^2 / (2 sigma_q^2 alpha (1 - alpha_bar)) with the posterior's variance sigma_q^2 (Ho et al., 2020, Eq. 12)."""
    process = scaled_linear()
    beta = process.betas
    bar = torch.cumprod(1 - beta, 0)
    variance = beta[1:] * (1 - bar[:-1]) / (1 - bar[1:])
    expected = beta[1:] ** 2 / (2 * variance * (1 - beta[1:]) * (1 - bar[1:]))
    torch.testing.assert_close(vlb_weights(process, PARAMETERIZATIONS["eps"])[1:].double(), expected, rtol=1e-5, atol=0)


def test_learned_log_variances_settle_at_the_log_of_the_error() -> None:
    objective = DiffusionObjective(log_variances=1000, initial_log_variance=0.0)
    errors, t = torch.tensor([0.5, 2.0]), torch.tensor([3, 700])
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.2)
    for _ in range(300):
        optimizer.zero_grad()
        objective(errors, t, scaled_linear(), PARAMETERIZATIONS["eps"])[0].backward()
        optimizer.step()
    torch.testing.assert_close(objective.log_variance[t].exp(), errors, rtol=1e-2, atol=0)
    assert float(objective.log_variance.abs().count_nonzero()) == 2


@pytest.mark.parametrize("wrong", [{"simple_weight": -1.0}, {"vlb_weight": -0.1}, {"min_snr": 0.0}, {"cosine_weight": math.nan}])
def test_weights_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must be a number"):
        DiffusionObjective(**wrong)


@pytest.mark.parametrize(
    "options,process,message",
    [
        ({"vlb_weight": 1.0}, "flow", "need discrete timesteps, unlike RectifiedFlow"),
        ({"log_variances": 1000}, "edm", "need discrete timesteps, unlike EDM"),
        ({"log_variances": 10}, "cosine", "log_variances is 10, but the process has 1000 timesteps"),
        ({"weight": weighting.velocity()}, "cosine", "weighting velocity needs a process with derivatives"),
    ],
)
def test_what_a_process_does_not_have_is_refused(options: dict, process: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiffusionObjective(**options).require(PROCESSES[process], PARAMETERIZATIONS["x0"])
