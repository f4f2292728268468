"""Health of a first stage: numbers against plain computations, and every warning provoked once."""

import math

import pytest
import torch

from ldm.first_stage import KLAutoencoder, VQAutoencoder
from ldm.first_stage.base import Reconstruction
from ldm.first_stage.health import Health, HealthMeter, balance_warnings
from ldm.first_stage.kl import DiagonalGaussian


def seen(latent: torch.Tensor, image: torch.Tensor | None = None, size: int | None = None, **more) -> Health:
    x = torch.zeros(len(latent), 3, 4, 4)
    meter = HealthMeter(size)
    meter.add(x, Reconstruction(x if image is None else image, latent, torch.zeros(len(latent)), **more))
    return meter.health()


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_statistics_are_those_of_all_images_at_once_whatever_the_batches() -> None:
    torch.manual_seed(0)
    stage = KLAutoencoder(2, 32, [1, 1], 1)
    x = torch.rand(7, 3, 8, 8) * 2 - 1
    whole, pieces = HealthMeter(), HealthMeter()
    with torch.no_grad():
        y = stage.reconstruct(x)
        whole.add(x, y)
        for part in x.split(3):
            pieces.add(part, stage.reconstruct(part))
    a, b = whole.health(), pieces.health()
    z = y.latent.double().movedim(1, 0).flatten(1)
    torch.testing.assert_close(a.mean, z.mean(1))
    torch.testing.assert_close(a.std, z.std(1, correction=0))
    assert a.overall_std == pytest.approx(float(z.std(correction=0)))
    torch.testing.assert_close(a.kl.sum() * 16 * 7, y.regularizer.sum().double(), rtol=1e-5, atol=0)  # 16 positions, 7 images
    torch.testing.assert_close(a.colour, (y.image.clamp(-1, 1) - x).mean(dim=(0, 2, 3)).double() * 127.5, rtol=1e-4, atol=1e-4)
    assert a.scalars().keys() == b.scalars().keys()
    for name, value in a.scalars().items():
        assert b.scalars()[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_the_prior_gap_is_a_kl_divergence() -> None:
    mean, std = torch.tensor([0.0, 2.0, -1.0]), torch.tensor([1.0, 0.5, 3.0])
    health = Health(mean, std, 1.0, None, None, torch.zeros(3))
    ours, prior = torch.distributions.Normal(mean, std), torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(health.gap(), torch.distributions.kl_divergence(ours, prior))
    assert float(health.gap()[0]) == 0.0
    scaled = torch.distributions.kl_divergence(torch.distributions.Normal(mean / 4, std / 4), prior)
    torch.testing.assert_close(health.gap(0.25), scaled)


def test_codebook_numbers() -> None:
    codes = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]).view(2, 2, 2)
    scalars = seen(normal(2, 2, 2, 2), size=8, codes=codes).scalars()
    assert scalars["codebook_usage"] == 0.5 and scalars["codebook_perplexity"] == pytest.approx(4.0)
    stage = VQAutoencoder(2, 16, 32, [1, 1], 1)
    y = stage.reconstruct(torch.rand(3, 3, 8, 8))
    assert torch.equal(seen(y.latent.detach(), size=16, codes=y.codes).code_counts, torch.bincount(y.codes.flatten(), minlength=16))


def test_a_healthy_stage_has_no_warnings() -> None:
    posterior = DiagonalGaussian(normal(8, 4, 8, 8), torch.full((8, 4, 8, 8), -6.0))
    assert seen(normal(8, 4, 8, 8), posterior=posterior, size=16, codes=torch.arange(16).repeat(32)).warnings() == {}
    assert balance_warnings({}) == {} and balance_warnings({"discriminator_right": 0.5}) == {}


def test_every_warning_has_its_case() -> None:
    z = normal(8, 4, 8, 8)
    quiet = z * torch.tensor([1.0, 1.0, 0.001, 1.0])[:, None, None]
    shifted = z + torch.tensor([5.0, -5.0, 5.0, -5.0])[:, None, None]
    silent = DiagonalGaussian(quiet, torch.zeros_like(z))
    assert seen(z * 1e-5).warnings().keys() == {"latent"}
    assert "channels 2 hardly" in seen(quiet).warnings()["quiet channels"]
    assert "channels 2 follow" in seen(quiet, posterior=silent).warnings()["silent channels"]
    assert seen(z * 100).warnings() == {}  # its size alone is no fault: App. G divides by it
    assert "nats per element" in seen(z * 0.01 + 1.0).warnings()["prior gap"]
    assert "are 0.97, -0.98, 1, -0.97 deviations" in seen(shifted).warnings()["prior gap"]
    collapsed = torch.zeros(8, 8, 8, dtype=torch.int64)
    assert "0.10%" in seen(z, size=1024, codes=collapsed).warnings()["codebook"]
    few = torch.arange(64).view(1, 8, 8)  # 64 positions cannot use more of 4096 codes than they do
    assert seen(z[:1], size=4096, codes=few).warnings() == {}
    red = torch.tensor([0.1, 0.0, -0.05])[:, None, None].expand(8, 3, 4, 4)
    assert "red +12.8, green +0.0, blue -6.4" in seen(z, red).warnings()["colour"]
    often = torch.cat([torch.arange(64), torch.zeros(4032, dtype=torch.int64)]).view(1, 64, 64)  # all 64 are in use
    assert "one code stands for 98.5%" in seen(z[:1], size=64, codes=often).warnings()["one code"]
    assert "has won" in balance_warnings({"discriminator_right": 0.999})["discriminator"]
    assert "wrong way" in balance_warnings({"discriminator_right": 0.3})["discriminator"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_no_collapse(bad: float) -> None:
    z, x = normal(8, 4, 8, 8), torch.zeros(8, 3, 4, 4)
    z[3, 2, 1, 1] = bad
    assert list(seen(z).warnings()) == ["not finite"] and "of the latent not all" in seen(z).warnings()["not finite"]
    x[0, 0, 0, 0] = math.nan  # a decoder alone; infinity is clipped
    assert "reconstructions' colour" in seen(normal(8, 4, 8, 8), x).warnings()["not finite"]
    posterior = DiagonalGaussian(z, torch.zeros_like(z))
    assert "of the KL not all" in seen(normal(8, 4, 8, 8), posterior=posterior).warnings()["not finite"]


def test_nothing_added_is_an_error() -> None:
    with pytest.raises(ValueError, match="no images"):
        HealthMeter().health()
    assert math.isfinite(seen(torch.ones(1, 1, 2, 2)).scaled_gap())
