import pytest
import torch

from ldm.first_stage import AutoencoderLoss, IdentityFirstStage, KLAutoencoder, PixelLoss, VQAutoencoder
from ldm.first_stage.kl import DiagonalGaussian
from ldm.first_stage.vq import Codebook, use_of_codes
from ldm.networks import PatchDiscriminator


@pytest.mark.parametrize("mult,factor", [([1], 1), ([1, 1], 2), ([1, 1, 1], 4), ([1, 1, 1, 1], 8), ([1] * 5, 16), ([1] * 6, 32)])
@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_every_factor_of_the_paper(kind: str, mult: list[int], factor: int) -> None:
    stage = KLAutoencoder(4, 32, mult, 1) if kind == "kl" else VQAutoencoder(4, 16, 32, mult, 1)
    x = torch.rand(2, 3, 32, 64) * 2 - 1
    z = stage.encode(x)
    assert stage.factor == factor and z.shape == (2, *stage.latent_shape(32, 64)) == (2, 4, 32 // factor, 64 // factor)
    assert stage.decode(z).shape == x.shape


def test_identity_is_pixels() -> None:
    x = torch.rand(2, 3, 8, 8)
    stage = IdentityFirstStage(3)
    assert torch.equal(stage.decode(stage.encode(x)), x) and stage.latent_shape(8, 8) == (3, 8, 8)


def test_a_size_that_f_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="not a multiple of the first stage's factor f=4"):
        KLAutoencoder(4, 32, [1, 1, 1], 1).latent_shape(30, 32)


def test_kl_against_torch_distributions() -> None:
    torch.manual_seed(0)
    moments = torch.randn(3, 8, 2, 2)
    q = DiagonalGaussian.from_moments(moments)
    reference = torch.distributions.Normal(q.mean, torch.exp(0.5 * q.log_variance))
    expected = torch.distributions.kl_divergence(reference, torch.distributions.Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(q.kl(), expected)


def test_kl_encode_is_the_mode_without_noise_and_a_sample_with_it() -> None:
    stage = KLAutoencoder(2, 32, [1, 1], 1)
    x = torch.rand(1, 3, 8, 8)
    q = stage.posterior(x)
    noise = torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(stage.encode(x), q.mean)
    torch.testing.assert_close(stage.encode(x, noise), q.mean + (0.5 * q.log_variance).exp() * noise)


@pytest.mark.parametrize("legacy", [True, False])
def test_codebook_takes_the_nearest_code_and_routes_gradients(legacy: bool) -> None:
    book = Codebook(3, 2, legacy=legacy)
    with torch.no_grad():
        book.embedding.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0], [-1.0, 1.0]]))
    z = torch.tensor([[0.9, -0.8], [1.2, 0.7]]).view(1, 2, 2, 1).requires_grad_()  # near codes 1 and 2
    z_q, loss, codes = book(z)
    assert codes.flatten().tolist() == [1, 2]
    z_q.sum().backward(retain_graph=True)
    torch.testing.assert_close(z.grad, torch.ones_like(z))  # straight through
    z.grad = None
    loss.sum().backward()
    both = (z.detach() - book.lookup(codes)).square().mean()
    torch.testing.assert_close(loss, (1.25 * both)[None])
    commitment = 2 * (z.detach() - book.lookup(codes)) / 4  # gradient of the mean over four numbers
    torch.testing.assert_close(z.grad, commitment * (1.0 if legacy else 0.25))


def test_usage_and_perplexity() -> None:
    share, perplexity = use_of_codes(torch.tensor([2, 2, 0, 0]))
    assert float(share) == 0.5
    torch.testing.assert_close(perplexity, torch.tensor(2.0))


def small() -> tuple[VQAutoencoder, AutoencoderLoss, torch.Tensor]:
    torch.manual_seed(0)
    stage = VQAutoencoder(3, 16, 32, [1, 1], 1)
    loss = AutoencoderLoss(discriminator=PatchDiscriminator(3, 8, layers=2), adversarial_start=5, reduction="mean", regularizer_weight=1.0)
    return stage, loss, torch.rand(2, 3, 32, 32) * 2 - 1


def test_the_adversary_waits_for_its_step() -> None:
    stage, loss, x = small()
    _, before = loss.generator(x, stage.reconstruct(x), 4, stage.last_layer())
    _, after = loss.generator(x, stage.reconstruct(x), 5, stage.last_layer())
    assert "adversarial" not in before and "adversarial" in after
    assert not loss.adversary_on(4) and loss.adversary_on(5)


def test_each_player_gets_only_its_own_gradients() -> None:
    stage, loss, x = small()
    y = stage.reconstruct(x)
    total, _ = loss.generator(x, y, 9, stage.last_layer())
    total.backward()
    assert all(p.grad is None for p in loss.discriminator.parameters())
    assert all(p.grad is not None for p in stage.parameters())
    stage.zero_grad()
    d_loss, _ = loss.adversary(x, y.image)
    d_loss.backward()
    assert all(p.grad is not None for p in loss.discriminator.parameters())
    assert all(p.grad is None for p in stage.parameters())


def test_the_adaptive_weight_is_the_ratio_of_gradients() -> None:
    stage, loss, x = small()
    y = stage.reconstruct(x)
    _, logs = loss.generator(x, y, 9, stage.last_layer())
    y = stage.reconstruct(x)
    reconstruction = (x - y.image).abs().mean()
    adversarial = -loss.discriminator(y.image).mean()
    layer = stage.last_layer()
    a = torch.autograd.grad(reconstruction, layer, retain_graph=True)[0].norm()
    b = torch.autograd.grad(adversarial, layer)[0].norm()
    torch.testing.assert_close(logs["adversarial_weight"], 0.5 * a / (b + 1e-4), rtol=0.05, atol=1e-4)


def test_sum_and_mean_differ_by_the_number_of_pixels() -> None:
    stage, _, x = small()
    y = stage.reconstruct(x)
    losses = {r: AutoencoderLoss(reduction=r, regularizer_weight=0.0).generator(x, y, 0, None)[0] for r in ("sum", "mean")}
    torch.testing.assert_close(losses["sum"], losses["mean"] * x[0].numel())


def test_pixel_loss_by_hand() -> None:
    x, y = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert float(PixelLoss(1, 0, 0)(x, y).sum()) == 1.0
    assert float(PixelLoss(0, 2, 0)(x, y).sum()) == 2.0
    assert float(PixelLoss(0, 0, 1)(x, y).sum()) == 2.0  # one horizontal and one vertical edge


def test_lpips_names_what_is_missing_and_refuses_a_wrong_file(tmp_path) -> None:
    from ldm.errors import MissingFile, UserError
    from ldm.first_stage import LPIPS

    absent = LPIPS(str(tmp_path / "vgg16.pth"))
    assert len(absent.missing()) == 1 and str(tmp_path) in str(absent.missing()[0])
    with pytest.raises(MissingFile, match="vgg16"):
        absent(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))
    torch.save({"something": torch.zeros(1)}, tmp_path / "vgg16.pth")
    with pytest.raises(UserError, match=r"features\.0\.weight"):
        absent.load()


def test_lpips_loads_torchvisions_file_and_measures_in_float32(tmp_path) -> None:
    """With random VGG weights: the loading path, the head weights and the properties of a distance, not its values."""
    from torchvision.models import vgg16

    from ldm.first_stage import LPIPS

    state = {k: v for k, v in vgg16(weights=None).state_dict().items() if k.startswith("features.")}
    torch.save(state, tmp_path / "vgg16.pth")
    metric = LPIPS(str(tmp_path / "vgg16.pth"))
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    y = (x * 0.5).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        distance = metric(x, y)
    assert distance.shape == (2,) and distance.dtype == torch.float32 and (distance > 0).all()
    assert float(metric(x, x).abs().max()) < 1e-6
    distance.sum().backward()
    assert y.grad is not None and float(y.grad.abs().sum()) > 0
    torch.testing.assert_close(metric.net.net.slice1[0].weight, state["features.0.weight"])
    assert not metric.train().training
