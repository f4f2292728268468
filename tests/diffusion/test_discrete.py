import pytest
import torch

from ldm.diffusion import DiscreteProcess, cosine, from_betas, linear, normal_kl, scaled_linear, sqrt

PROCESSES = [scaled_linear(), linear(), cosine(), sqrt(200, 1e-6, 1e-3), scaled_linear(50, 0.01, 0.2), from_betas([0.1, 0.2, 0.3] * 5)]


@pytest.mark.parametrize("process", PROCESSES)
def test_variance_is_preserved_and_noise_grows(process: DiscreteProcess) -> None:
    t = torch.arange(-1, process.T)
    like = torch.zeros(len(t), 1)
    alpha, sigma = process.alpha(t, like), process.sigma(t, like)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha), atol=1e-6, rtol=0)
    assert (process.half_log_snr(t, like)[1:].diff(dim=0) < 0).all()
    assert float(alpha[0]) == 1.0 and float(sigma[0]) == 0.0  # t = -1 is clean data


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("gap", [1, 7])
def test_posterior_is_bayes_rule(process: DiscreteProcess, gap: int) -> None:
    """q(z_s | z_t, z_0) ~ q(z_t | z_s) q(z_s | z_0), solved for one dimension in float64."""
    t = torch.tensor([process.T // 2])
    s = t - gap
    one = torch.ones(1, 1)
    alpha_t, sigma_t = process.alpha(t, one).double(), process.sigma(t, one).double()
    alpha_s, sigma_s = process.alpha(s, one).double(), process.sigma(s, one).double()
    z_0, z_t = torch.tensor([[0.7]]).double(), torch.tensor([[-0.4]]).double()
    a = alpha_t / alpha_s
    variance_ts = sigma_t**2 - a**2 * sigma_s**2
    precision = a**2 / variance_ts + 1 / sigma_s**2
    mean = (a * z_t / variance_ts + alpha_s * z_0 / sigma_s**2) / precision
    got = process.posterior(z_0.float(), z_t.float(), t, s)
    torch.testing.assert_close(got.mean.double(), mean, rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(got.variance.double(), 1 / precision, rtol=2e-3, atol=1e-6)


def test_tables_are_no_part_of_a_checkpoint() -> None:
    assert scaled_linear().state_dict() == {}


def test_the_papers_linear_is_linear_in_the_root() -> None:
    process = scaled_linear(1000, 0.0015, 0.0195)
    alpha_squared = process._alpha.double() ** 2
    beta = 1 - alpha_squared[1:] / alpha_squared[:-1]
    steps = beta[:500].sqrt().diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=5e-2, atol=0)


def test_wrong_betas_are_refused() -> None:
    with pytest.raises(ValueError, match="betas"):
        DiscreteProcess(torch.tensor([0.1, 1.5]))


@pytest.mark.parametrize("make", [scaled_linear, linear, cosine])
def test_zero_terminal_snr_ends_in_pure_noise_and_begins_as_before(make) -> None:
    plain, stretched = make(), make(zero_terminal_snr=True)
    t, like = torch.tensor([0, 999]), torch.zeros(2, 1)
    assert stretched.pure_noise and not plain.pure_noise
    assert float(stretched.alpha(t, like)[1]) == 0.0 and float(stretched.sigma(t, like)[1]) == 1.0
    torch.testing.assert_close(stretched.alpha(t, like)[0], plain.alpha(t, like)[0])
    between = torch.arange(1000)
    assert (stretched.alpha(between, torch.zeros(1000, 1)).diff(dim=0) < 0).all()


def test_the_prior_term_is_the_divergence_in_bits() -> None:
    process = scaled_linear()
    z_0 = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.full((3,), 999)
    q = torch.distributions.Normal(process.alpha(t, z_0) * z_0, process.sigma(t, z_0).expand_as(z_0))
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).flatten(1).mean(1) / torch.log(torch.tensor(2.0))
    torch.testing.assert_close(process.prior_bits(z_0), expected, rtol=1e-3, atol=1e-7)


def test_divergence_of_two_normals() -> None:
    a, b = torch.distributions.Normal(0.3, 0.7), torch.distributions.Normal(-1.0, 2.0)
    got = normal_kl(torch.tensor(0.3), torch.tensor(0.49).log(), torch.tensor(-1.0), torch.tensor(4.0).log())
    torch.testing.assert_close(got, torch.distributions.kl_divergence(a, b))
