import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from demos.restoration import enlarge, error_inside, fill_blur, fill_mean
from ldm.evaluation.paired import psnr, ssim
from ldm.evaluation.small_extractor import SmallExtractor, mean_where, perceptual_distance

g = torch.Generator().manual_seed(0)
X = torch.nn.functional.interpolate(torch.rand(3, 3, 8, 8, generator=g) * 2 - 1, size=32, mode="bicubic").clamp(-1, 1)
Y = (X + 0.1 * torch.randn(X.shape, generator=g)).clamp(-1, 1)


def test_psnr_and_ssim_against_scikit_image() -> None:
    for i in range(3):
        a, b = (127.5 * (t[i].permute(1, 2, 0).double().numpy() + 1) for t in (X, Y))  # as both are published: 0 to 255
        assert float(psnr(X, Y)[i]) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), rel=1e-4)
        theirs = structural_similarity(a, b, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        assert float(ssim(X, Y)[i]) == pytest.approx(theirs, abs=1e-4)
    assert torch.allclose(ssim(X, X), torch.ones(3), atol=1e-5)
    assert torch.allclose(psnr(torch.cat([X, Y]), torch.cat([Y, Y]))[:3], psnr(X, Y))  # per image, not over the batch


def test_fills_leave_what_is_known_and_fill_every_hole() -> None:
    mask = torch.zeros(3, 1, 32, 32)
    mask[0, :, 4:9, 5:12] = 1
    mask[1, :, :, :31] = 1  # a line is left
    mask[2, :, 1:, :] = 1
    secret = torch.where(mask > 0, torch.full_like(X, 77.0), X)  # what is in the hole must not come out
    for fill in (fill_mean, fill_blur):
        filled = fill(secret, mask)
        assert torch.equal(torch.where(mask > 0, X, filled), X) and filled.abs().max() <= 1 + 1e-4
        flat = torch.full_like(X, 0.3)
        assert torch.allclose(fill(flat, mask), flat, atol=1e-5)
    assert float(error_inside(fill_blur(X, mask), X, mask)[0]) < float(error_inside(fill_mean(X, mask), X, mask)[0])
    assert torch.allclose(fill_mean(secret, mask)[0, :, 6, 6], ((X * (1 - mask)).sum((2, 3)) / (1 - mask).sum((2, 3)))[0])


def test_error_inside_counts_the_hole_only() -> None:
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, :2] = 1
    x, y = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    y[0, :, 0], y[1, :, 5] = 0.5, 1.0
    assert error_inside(x, y, mask).tolist() == [0.25, 0.0]


def test_enlarging_is_pillows_bicubic() -> None:
    low = torch.rand(1, 1, 8, 8, generator=g) * 2 - 1
    theirs = np.asarray(Image.fromarray(low[0, 0].numpy()).resize((32, 32), Image.Resampling.BICUBIC))
    assert np.allclose(enlarge(low, 4)[0, 0].numpy(), theirs.clip(-1, 1), atol=1e-5)


def test_features_of_a_part() -> None:
    net, where = SmallExtractor(4), torch.zeros(3, 1, 32, 32)
    where[:, :, :8] = 1
    whole, part = net.features(X), net.features(X, where)
    assert torch.allclose(part, net.maps(X)[-1][:, :, :2].mean((2, 3)), atol=1e-6) and not torch.allclose(part, whole)
    assert torch.allclose(net.features(X, torch.ones_like(where)), whole, atol=1e-6)
    assert torch.allclose(perceptual_distance(net, X, Y), perceptual_distance(net, X, Y, torch.ones_like(where)), atol=1e-6)
    assert mean_where(X, where).shape == (3, 3)
