"""Classifier guidance and image guidance, compared with autograd and on a toy whose answer is known."""

import pytest
import torch
from torch import Tensor

from ldm.diffusion import Prediction, classifier_guided, cosine, image_guided
from ldm.diffusion.image_guidance import gaussian, perceptual, reduced_to
from ldm.diffusion.process.spacing import uniform
from ldm.diffusion.sampling import ddim, last_part
from ldm.first_stage import VQAutoencoder

PROCESS = cosine()


def exact(z_t: Tensor, t: float) -> Prediction:
    """The optimal denoiser of standard normal data: E[z_0 | z_t] = alpha_t z_t."""
    return Prediction(PROCESS.sigma(t, z_t) * z_t, PROCESS.alpha(t, z_t) * z_t)


def draw(denoise, count: int = 400, steps: int = 50) -> Tensor:
    noise = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return ddim(denoise, noise, PROCESS, uniform(1000, steps), noise=torch.randn_like)


def logits(z_t: Tensor, t: Tensor) -> Tensor:
    """Exact classifier of "the mean of z_0 is positive" on noisy data: mean(z_0) | z_t is normal, with sigma_t^2 / 16."""
    mean = PROCESS.alpha(t, z_t).flatten() * z_t.flatten(1).mean(1)
    p = torch.distributions.Normal(0, 1).cdf(mean / (PROCESS.sigma(t, z_t).flatten() / 4)).clamp(1e-6, 1 - 1e-6)
    return torch.stack([1 - p, p], dim=1).log()


def test_classifier_guidance_is_the_formula() -> None:
    z, t = torch.randn(3, 1, 4, 4), 500
    guided = classifier_guided(exact, lambda z, t: logits(z, t)[:, 1], 3.0, PROCESS)
    with torch.no_grad():  # as samplers call it
        eps, z_0 = guided(z, t)
    leaf = z.clone().requires_grad_()
    (score,) = torch.autograd.grad(logits(leaf, torch.full((3,), t))[:, 1].sum(), leaf)
    torch.testing.assert_close(eps, exact(z, t).eps - 3.0 * PROCESS.sigma(t, z) * score)
    torch.testing.assert_close(PROCESS.alpha(t, z) * z_0 + PROCESS.sigma(t, z) * eps, z, atol=1e-4, rtol=1e-4)


def test_classifier_guidance_raises_the_probability_of_the_asked_class() -> None:
    plain = draw(exact)
    shares = [float((plain.flatten(1).mean(1) > 0).float().mean())]
    for scale in (1.0, 4.0):
        samples = draw(classifier_guided(exact, lambda z, t: logits(z, t)[:, 1], scale, PROCESS))
        shares.append(float((samples.flatten(1).mean(1) > 0).float().mean()))
    assert 0.4 < shares[0] < 0.6 and shares[1] > 0.9 and shares[2] >= shares[1]
    down = draw(classifier_guided(exact, lambda z, t: logits(z, t)[:, 0], 1.0, PROCESS))
    assert float((down.flatten(1).mean(1) > 0).float().mean()) < 0.1


def test_image_guidance_is_the_formula() -> None:
    z, t, target = torch.randn(2, 1, 8, 8), 100, torch.randn(1, 1, 4, 4)
    transform = reduced_to(4, 4)
    guided = image_guided(exact, torch.tanh, gaussian(target, transform), 2.0, PROCESS)
    with torch.no_grad():
        eps, _ = guided(z, t)
    leaf = z.clone().requires_grad_()
    squared = (target - transform(torch.tanh(exact(leaf, t).z_0))).square().sum()
    (gradient,) = torch.autograd.grad(-0.5 * squared, leaf)
    torch.testing.assert_close(eps, exact(z, t).eps - 2.0 * PROCESS.sigma(t, z) * gradient)


@pytest.mark.parametrize("kind", ["l2", "perceptual"])
def test_guided_samples_come_nearer_to_the_target(kind: str) -> None:
    target, transform = torch.full((1, 1, 2, 2), 1.5), reduced_to(2, 2)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return (x - y).abs().flatten(1).sum(1)

    log_p = gaussian(target, transform) if kind == "l2" else perceptual(target, transform, distance)
    guided = [image_guided(exact, lambda z: z, log_p, scale, PROCESS) for scale in (1.0, 10.0)]
    error = [float((transform(draw(denoise)) - target).abs().mean()) for denoise in (exact, *guided)]
    assert error[0] > 1.1 * error[1] > 1.1 * 1.5 * error[2]


@pytest.mark.parametrize("sizes", [((16, 24), (4, 6)), ((15, 9), (4, 9)), ((8, 8), (8, 8)), ((5, 5), (1, 1))])
def test_the_reduction_is_the_librarys_in_any_precision(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    x = torch.randn(2, 3, *sizes[0])
    expected = torch.nn.functional.interpolate(x, size=sizes[1], mode="bicubic", antialias=True)
    torch.testing.assert_close(reduced_to(*sizes[1])(x), expected, atol=1e-5, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(reduced_to(*sizes[1])(x), expected, atol=1e-5, rtol=0)
        assert gaussian(expected, reduced_to(*sizes[1]))(x.bfloat16()).dtype == torch.float32


def test_a_quantiser_lets_the_guides_gradient_through() -> None:
    torch.manual_seed(0)
    stage = VQAutoencoder(2, 16, 32, [1], 1, middle_attention=False).requires_grad_(False).eval()
    z = torch.randn(1, 2, 4, 4)
    with torch.no_grad():
        plain = stage.decode(z)
    leaf = z.clone().requires_grad_()
    through = stage.decode(leaf)
    torch.testing.assert_close(through.detach(), plain)
    (gradient,) = torch.autograd.grad(through.square().sum(), leaf)
    assert gradient.abs().sum() > 0


def test_nothing_is_guided_where_nothing_of_the_image_is_left() -> None:
    process = cosine(zero_terminal_snr=True)
    z, t = torch.randn(1, 1, 2, 2), 999
    guided = classifier_guided(lambda z, t: Prediction(z, z), lambda z, t: z.sum(dim=(1, 2, 3)), 1.0, process)
    assert all(torch.equal(view, z) for view in guided(z, t))


def test_the_last_part_of_a_list_of_times() -> None:
    times = uniform(1000, 10)
    assert last_part(times, 1.0) == times and last_part(times, 0.3) == times[-4:] and last_part(times, 1e-6) == times[-2:]
    for wrong in (0.0, -1.0, 1.1):
        with pytest.raises(ValueError, match="strength"):
            last_part(times, wrong)
