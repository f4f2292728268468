import pytest
import torch

from ldm.evaluation.distances import frechet_distance
from ldm.evaluation.small_extractor import perceptual_distance, train_extractor


def textures(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Stripes of four directions and widths, shifted at random."""
    g = torch.Generator().manual_seed(seed)
    kinds = torch.arange(n) % 4
    line = torch.linspace(0, 6.28, 16)
    shift = torch.rand(n, 1, 1, generator=g) * 6.28
    across = torch.where((kinds % 2 == 0)[:, None, None], line[None, :, None], line[None, None, :])
    waves = torch.sin(across * torch.where(kinds < 2, 2.0, 4.0)[:, None, None] + shift)
    return waves[:, None].expand(n, 3, 16, 16).contiguous() * 0.8, kinds


def test_it_learns_to_tell_sources_apart_and_its_distance_follows_damage() -> None:
    patches, sources = textures(256, 0)
    held_out, kinds = textures(64, 1)
    trained = train_extractor(patches, sources, held_out, kinds, steps=60)
    assert trained.accuracy > 0.9 > trained.chance == 0.25
    g = torch.Generator().manual_seed(2)
    noise = torch.randn(held_out.shape, generator=g)
    distances = [float(perceptual_distance(trained.net, held_out, held_out + s * noise).mean()) for s in (0.0, 0.1, 0.4)]
    assert distances[0] == 0.0 and 0.0 < distances[1] < distances[2]
    where = torch.zeros(64, 1, 16, 16)
    where[:, :, :, 8:] = 1.0
    left = held_out.clone()
    left[:, :, :, :2] = 0.0  # damage far outside of where it counts
    assert float(perceptual_distance(trained.net, held_out, left, where).mean()) < 0.05 * float(
        perceptual_distance(trained.net, held_out, left).mean()
    )
    again = train_extractor(patches, sources, held_out, kinds, steps=60)
    assert all(torch.equal(a, b) for a, b in zip(trained.net.parameters(), again.net.parameters(), strict=True))


def test_frechet_distance_of_known_normals() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(20000, 3, generator=g), torch.randn(20000, 3, generator=g) * 2 + torch.tensor([1.0, 0.0, 0.0])
    assert frechet_distance(a, b) == pytest.approx(1.0 + 3.0, rel=0.05)  # |mean|^2 + sum (1 - 2)^2
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)
