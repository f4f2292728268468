"""Progressive coding against a Gaussian, for which the ideal model and what its code must cost are known."""

import math

import pytest
import torch

from ldm.diffusion import cosine, from_betas, normal_kl
from ldm.diffusion.parameterization import Prediction
from ldm.diffusion.progressive import code_times, progressive


def ideal(process, variance: float):
    """The best guess of z_0 ~ N(0, variance) from z_t."""

    def denoise(z_t, t):
        a, s = process.alpha(t, z_t), process.sigma(t, z_t)
        z_0 = a * variance / (a**2 * variance + s**2) * z_t
        return Prediction((z_t - a * z_0) / s, z_0)

    return denoise


def test_the_whole_chain_costs_the_mutual_information_of_a_gaussian() -> None:
    """A receiver at time t has I(z_0; z_t) = log2(1 + SNR_t) / 2 bits per dimension, and errs by 1 / (1 + SNR_t)."""
    squared = torch.sigmoid(torch.linspace(8.0, -8.0, 400, dtype=torch.float64))  # even in the logarithm of SNR, in small steps
    process = from_betas((1 - squared / torch.cat([squared.new_ones(1), squared[:-1]])).tolist())
    z_0 = torch.randn(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    received = list(progressive(ideal(process, 1.0), z_0, process, code_times(400, 400), torch.Generator().manual_seed(1)))
    assert [r.t for r in received] == list(range(399, -1, -1))
    for r in received[::40] + received[-1:]:
        snr = float(squared[r.t] / (1 - squared[r.t]))
        bits = float(r.nats.mean()) / math.log(2) / 256
        assert bits == pytest.approx(0.5 * math.log2(1 + snr), rel=0.06, abs=0.01), r.t  # dearer by the chain's finite steps, and noise
        assert float((r.z_0 - z_0).square().mean()) == pytest.approx(1 / (1 + snr), rel=0.03), r.t


def test_a_step_costs_the_divergence_of_the_two_normals_that_the_process_gives() -> None:
    """Element by element, from q(z_s | z_t, z_0) and the same with the guess in the place of z_0; s is not t - 1."""
    process = from_betas([0.05, 0.1, 0.2, 0.3, 0.4])
    z_0 = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    seen = []

    def denoise(z_t, t):
        seen.append(z_t)
        return Prediction(z_t, 0.5 * z_t + 0.1)

    first, second, third = progressive(denoise, z_0, process, [4, 2, 0], torch.Generator().manual_seed(0))
    for before, after, z_t in ((first, second, seen[0]), (second, third, seen[1])):
        q, p = (process.posterior(clean, z_t, before.t, after.t) for clean in (z_0, before.z_0))
        spread = q.variance.expand_as(z_0).log()
        expected = normal_kl(q.mean, spread, p.mean, spread).flatten(1).sum(1)
        assert torch.allclose((after.nats - before.nats).float(), expected, rtol=1e-4)
    assert torch.allclose(first.nats.float(), process.prior_bits(z_0) * math.log(2) * 32)


def test_fewer_steps_cost_more_and_a_worse_model_too() -> None:
    process = cosine(T=200)
    z_0 = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))

    def cost(variance: float, steps: int) -> float:
        model = ideal(process, variance)
        return float(list(progressive(model, z_0, process, code_times(200, steps), torch.Generator().manual_seed(0)))[-1].nats.mean())

    assert cost(1.0, 200) < cost(1.0, 50) < cost(1.0, 10)
    assert cost(1.0, 200) < cost(0.2, 200)


def test_the_times_of_a_code() -> None:
    assert code_times(10, 10) == list(range(9, -1, -1)) and code_times(1000, 2) == [999, 0]
    assert code_times(1000, 5) == sorted(set(code_times(1000, 5)), reverse=True)
    for steps in (1, 11):
        with pytest.raises(ValueError, match="2 to 10"):
            code_times(10, steps)
