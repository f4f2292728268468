import torch

from ldm.diffusion import EDM, RectifiedFlow, cosine
from paper.rescale_effect import coarse_variance, share_before


def test_coarse_content_stands_out_of_the_noise_of_large_images() -> None:
    noise = torch.randn(8, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    assert all(abs(coarse_variance(noise, block) - 1) < 0.05 for block in (1, 2, 4))
    coarse = noise[:, :, :16, :16].repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(coarse_variance(coarse, 4), 16 * coarse_variance(coarse[:, :, ::4, ::4], 1), rtol=1e-4, atol=0)


def test_a_large_variance_shows_content_early() -> None:
    shares = [share_before(cosine(), variance) for variance in (100.0, 10.0, 1.0, 0.1)]
    assert shares == sorted(shares) and abs(shares[2] - 0.5) < 0.01  # the cosine crosses 1 in the middle
    assert abs(share_before(RectifiedFlow(), 1.0) - 0.5) < 0.01 and abs(share_before(RectifiedFlow(), 9.0) - 0.25) < 0.01
    assert share_before(EDM(), 100.0) < share_before(EDM(), 1.0) < 1.0
