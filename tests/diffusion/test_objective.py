import pytest
import torch

from ldm.diffusion import PARAMETERIZATIONS, DiffusionObjective, cosine, scaled_linear
from ldm.diffusion.objective import vlb_weights


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_a_network_that_answers_the_target_is_read_back_exactly(name: str) -> None:
    schedule, p = cosine(), PARAMETERIZATIONS[name]
    generator = torch.Generator().manual_seed(0)
    z_0, eps = torch.randn(2, 6, 3, 4, 4, generator=generator)
    t = torch.tensor([0, 10, 300, 500, 900, 950])
    alpha, sigma = schedule.alpha(t, z_0), schedule.sigma(t, z_0)
    read = p.predict(p.target(z_0, eps, alpha, sigma), schedule.add_noise(z_0, t, eps), alpha, sigma)
    torch.testing.assert_close(read.z_0, z_0, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(read.eps, eps, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("loss,expected", [("l2", 4.0), ("l1", 2.0)])
def test_error_per_sample(loss: str, expected: float) -> None:
    z_0 = torch.zeros(3, 1, 2, 2)
    eps = torch.ones_like(z_0)
    error = DiffusionObjective(loss).errors(lambda z, t: eps + 2, z_0, torch.tensor([1, 2, 3]), eps, cosine(), PARAMETERIZATIONS["eps"])
    torch.testing.assert_close(error, torch.full((3,), expected))


def same_mistake(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Error of each target's output where every network is wrong about the clean latent by the same 0.1, and the times."""
    schedule, p = scaled_linear(), PARAMETERIZATIONS[name]
    t = torch.tensor([1, 20, 300, 700, 998])
    z_0, eps = torch.zeros(5, 1, 2, 2), torch.ones(5, 1, 2, 2)
    alpha, sigma = schedule.alpha(t, z_0), schedule.sigma(t, z_0)
    z_t = schedule.add_noise(z_0, t, eps)
    answer = p.target(z_0 + 0.1, (z_t - alpha * (z_0 + 0.1)) / sigma, alpha, sigma)
    return DiffusionObjective().errors(lambda z, t: answer, z_0, t, eps, schedule, p), t


@pytest.mark.parametrize("options", [{"min_snr": 5.0}, {"simple_weight": 0.0, "vlb_weight": 1.0}])
def test_these_weightings_do_not_depend_on_what_the_network_predicts(options: dict) -> None:
    losses = []
    for name, p in PARAMETERIZATIONS.items():
        errors, t = same_mistake(name)
        losses.append(DiffusionObjective(**options)(errors, t, scaled_linear(), p)[0])
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=0)
    torch.testing.assert_close(losses[0], losses[2], rtol=1e-3, atol=0)


def test_min_snr_caps_the_weight_of_little_noise() -> None:
    errors, t = same_mistake("x0")
    loss, _ = DiffusionObjective(min_snr=5.0)(errors, t, scaled_linear(), PARAMETERIZATIONS["x0"])
    weights = scaled_linear().snr(t).clamp(max=5.0)
    torch.testing.assert_close(loss, (weights * 0.01).mean(), rtol=1e-3, atol=0)


def test_the_bounds_weight_of_noise_prediction_is_that_of_the_paper_on_ddpm() -> None:
    """beta^2 / (2 sigma_q^2 alpha (1 - alpha_bar)) with the posterior's variance sigma_q^2 (Ho et al., 2020, Eq. 12)."""
    schedule = scaled_linear()
    beta = schedule.betas
    bar = torch.cumprod(1 - beta, 0)
    variance = beta[1:] * (1 - bar[:-1]) / (1 - bar[1:])
    expected = beta[1:] ** 2 / (2 * variance * (1 - beta[1:]) * (1 - bar[1:]))
    torch.testing.assert_close(vlb_weights(schedule, PARAMETERIZATIONS["eps"])[1:].double(), expected, rtol=1e-5, atol=0)


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


@pytest.mark.parametrize("wrong", [{"simple_weight": -1.0}, {"vlb_weight": -0.1}, {"min_snr": 0.0}])
def test_weights_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must be a number"):
        DiffusionObjective(**wrong)
