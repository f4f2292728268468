"""Tiles: seams, batches of tiles, edges."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.conditioning import ConcatImage
from ldm.diffusion import Tiles, cosine
from ldm.first_stage import IdentityFirstStage
from ldm.model import LatentDiffusion
from ldm.networks import UNet


@pytest.mark.parametrize("size,overlap", [(16, 8), (16, 4), (8, 0), (12, 8), (64, 32)])
@pytest.mark.parametrize("shape", [(40, 24), (16, 50), (12, 12)])
def test_a_pointwise_function_is_as_without_tiles(size: int, overlap: int, shape: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *shape)
    found = Tiles(size, overlap, 3).apply(lambda crop, rows: crop.square() + rows[:, None, None, None], x)
    torch.testing.assert_close(found, x.square() + torch.tensor([0.0, 1.0])[:, None, None, None])


def test_a_convolution_within_a_quarter_of_the_overlap_has_no_seams() -> None:
    torch.manual_seed(0)
    kernel, x = torch.randn(2, 3, 5, 5), torch.randn(1, 3, 48, 33)  # sees 2 cells around: a quarter of 8
    whole = F.conv2d(x, kernel, padding=2)
    for batch in (1, 4, 100):
        found = Tiles(16, 8, batch).apply(lambda crop, rows: F.conv2d(crop, kernel, padding=2), x)
        torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)


def test_a_decoder_in_tiles() -> None:
    x = torch.randn(1, 1, 20, 12)
    found = Tiles(8, 4).apply(lambda crop, rows: F.interpolate(crop, scale_factor=2.0), x, enlarge=2)
    torch.testing.assert_close(found, F.interpolate(x, scale_factor=2.0))


def test_an_encoder_in_tiles() -> None:
    x = torch.randn(2, 3, 40, 24)
    found = Tiles(8, 4, 3).apply(lambda crop, rows: F.avg_pool2d(crop, 2), x, reduce=2)
    torch.testing.assert_close(found, F.avg_pool2d(x, 2))


def model() -> LatentDiffusion:
    torch.manual_seed(0)
    net = UNet(2, 1, 32, [1, 2], 1, heads=1)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.05)
    return LatentDiffusion(IdentityFirstStage(1), net, cosine(), ConcatImage("low_res", 1), parameterization="v").eval()


@torch.no_grad()
def test_the_condition_is_cut_with_the_latent_and_batches_do_not_matter() -> None:
    m, z, low = model(), torch.randn(3, 1, 16, 24), torch.rand(3, 1, 16, 24)
    t = 500
    found = [m.denoiser({"low_res": low}, 1.0, tiles=Tiles(8, 4, batch, 2))(z, t).z_0 for batch in (1, 2, 7, 64)]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-6, rtol=0)
    alone = m.denoiser({"low_res": low[1:2]}, 1.0, tiles=Tiles(8, 4, 5, 2))(z[1:2], t).z_0
    torch.testing.assert_close(alone, found[0][1:2], atol=1e-6, rtol=0)
    whole = m.denoiser({"low_res": low})(z, t).z_0
    torch.testing.assert_close(m.denoiser({"low_res": low}, tiles=Tiles(32, 4))(z, t).z_0, whole, atol=1e-6, rtol=0)


def test_gradients_pass_tiles() -> None:
    x = torch.randn(1, 1, 12, 12, requires_grad=True)

    def square(crop: Tensor, rows: Tensor) -> Tensor:
        return crop.square()

    (gradient,) = torch.autograd.grad(Tiles(8, 4).apply(square, x).sum(), x)
    torch.testing.assert_close(gradient, 2 * x.detach())


def test_nothing_inside_the_tiles_waits_for_the_way_back() -> None:
    kept: list[int] = []

    def exponents(crop: Tensor, rows: Tensor) -> Tensor:
        for _ in range(50):
            crop = crop.exp() / 3  # one map each that its gradient needs
        return crop

    x = torch.zeros(1, 1, 64, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda y: kept.append(y.numel()) or y, lambda y: y):
        y = Tiles(8, 4).apply(exponents, x)
    assert sum(kept) < 10 * 4 * x.numel()
    (gradient,) = torch.autograd.grad(y.sum(), x)
    (expected,) = torch.autograd.grad(exponents(x, x).sum(), x)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("words", [(7, 2, 1, 2), (8, 8, 1, 1), (8, -1, 1, 1), (8, 4, 0, 1), (0, 0, 1, 1)])
def test_wrong_tiles_are_refused(words: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="overlap|tiles"):
        Tiles(*words)
