import pytest
import torch

from ldm.diffusion import PARAMETERIZATIONS, DiffusionObjective, cosine


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
