import pytest
import torch

from ldm.conditioning import ClassEmbedding, ConcatImage
from ldm.diffusion import cosine
from ldm.errors import UserError
from ldm.first_stage import IdentityFirstStage, KLAutoencoder
from ldm.model import LatentDiffusion
from ldm.networks import UNet
from ldm.rng import StepRNG
from ldm.sampling.generate import SamplerSettings, generate


def make(**options) -> LatentDiffusion:
    torch.manual_seed(0)
    stage = KLAutoencoder(2, 32, [1, 1], 1)
    net = UNet(2, 2, 64, [1, 2], 1, heads=2, context_channels=8)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.03)
    return LatentDiffusion(stage, net, cosine(), ClassEmbedding(4, 8, uncond_prob=0.1), "v", **options).eval()


def test_the_first_stage_is_frozen_and_stays_in_eval_mode() -> None:
    model = make().train()
    assert not model.first_stage.training and model.network.training
    assert not any(p.requires_grad for p in model.first_stage.parameters())


def test_scale_is_applied_once_each_way() -> None:
    plain, scaled = make(), make(scale=0.5)
    x = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(scaled.encode(x), 0.5 * plain.encode(x))
    torch.testing.assert_close(scaled.decode(scaled.encode(x)), plain.decode(plain.encode(x)))


def test_a_scale_and_a_mean_for_each_channel() -> None:
    plain, each = make(), make(scale=[0.5, 2.0], mean=[1.0, -1.0])
    x = torch.rand(1, 3, 16, 16)
    raw = plain.encode(x)
    torch.testing.assert_close(each.encode(x), torch.stack([0.5 * (raw[:, 0] - 1.0), 2.0 * (raw[:, 1] + 1.0)], dim=1))
    torch.testing.assert_close(each.decode(each.encode(x)), plain.decode(raw))
    assert each.state_dict().keys() - plain.state_dict().keys() == {"mean"}  # scale is there in both
    assert plain.state_dict()["scale"].shape == () and each.state_dict()["scale"].shape == (2, 1, 1)
    for wrong in ({"scale": [1.0]}, {"scale": [1.0, 0.0]}, {"scale": 0.0}, {"mean": [1.0]}, {"mean": [1.0, float("nan")]}):
        with pytest.raises(ValueError, match="scale|mean"):
            make(**wrong)


def test_a_loss_for_training_loops_of_ones_own() -> None:
    """Plain PyTorch: the loss goes down on one batch, and equal random numbers give equal losses."""
    model = make().train()
    batch = {"image": torch.rand(4, 3, 16, 16) * 2 - 1, "label": torch.tensor([0, 1, 2, 3])}
    optimizer = torch.optim.Adam(model.network.parameters(), 1e-3)
    random = StepRNG(0, 0, list("abcd"))
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = model.loss(batch, random=random)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert torch.equal(model.loss(batch, random=random), model.loss(batch, random=random)) and torch.isfinite(model.loss(batch))


def test_an_unmeasured_scale_cannot_pass_unnoticed() -> None:
    assert not torch.isfinite(make(scale="std").encode(torch.rand(1, 3, 16, 16))).any()


@pytest.mark.parametrize(
    "change,message",
    [
        (
            {"network": lambda: UNet(3, 2, 32, [1], 1, heads=1)},
            "in_channels is 3, but the first stage gives 2 channels and the conditioner 0",
        ),
        ({"network": lambda: UNet(2, 3, 32, [1], 1, heads=1)}, "out_channels is 3, but latents have 2"),
        ({"network": lambda: UNet(2, 2, 32, [1], 1, heads=1, context_channels=8)}, "context_channels is 8, but the conditioner gives None"),
        ({"network": lambda: UNet(2, 2, 32, [1], 1, heads=1), "conditioner": lambda: ConcatImage("mask", 1)}, "must be 3"),
    ],
)
def test_parts_that_do_not_fit_are_refused_with_their_numbers(change: dict, message: str) -> None:
    parts = {name: make_part() for name, make_part in change.items()}
    with pytest.raises(ValueError, match=message):
        LatentDiffusion(IdentityFirstStage(2), process=cosine(), **parts)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_image_i_does_not_depend_on_the_batch(sampler: str) -> None:
    model, labels = make(), torch.tensor([0, 1, 2, 3, 0])
    settings = SamplerSettings(sampler=sampler, steps=5, eta=1.0 if sampler == "ddim" else 0.0, scale=2.0)
    together = generate(model, {"label": labels}, range(5), (16, 16), settings, seed=7)
    apart = [generate(model, {"label": labels[i : i + 1]}, [i], (16, 16), settings, seed=7) for i in reversed(range(5))]
    torch.testing.assert_close(together, torch.cat(apart[::-1]), atol=1 / 255, rtol=0)
    again = generate(model, {"label": labels}, range(5), (16, 16), settings, seed=7)
    assert torch.equal(together, again)
    assert not torch.allclose(together, generate(model, {"label": labels}, range(5), (16, 16), settings, seed=8))


def test_other_sizes_than_in_training_and_impossible_ones() -> None:
    model = make()
    images = generate(model, {"label": torch.tensor([1])}, [0], (16, 32), SamplerSettings(steps=2))
    assert images.shape == (1, 3, 16, 32)
    with pytest.raises(UserError, match="not a multiple"):
        generate(model, {"label": torch.tensor([1])}, [0], (15, 32), SamplerSettings(steps=2))
    with pytest.raises(UserError, match="between 1 and 1000"):
        generate(model, {"label": torch.tensor([1])}, [0], (16, 16), SamplerSettings(steps=1001))


@pytest.mark.parametrize("wrong", [{"sampler": "dddim"}, {"steps": 0}, {"eta": -1.0}, {"sampler": "ddpm", "eta": 1.0}])
def test_wrong_sampler_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError):
        SamplerSettings(**wrong)


def test_guiding_a_model_without_a_null_class_is_refused() -> None:
    model = make()
    model.conditioner = ClassEmbedding(4, 8, null_class=False)
    with pytest.raises(UserError, match="--scale 1"):
        generate(model, {"label": torch.tensor([1])}, [0], (16, 16), SamplerSettings(steps=2, scale=2.0))


def test_the_originals_spacing_by_name() -> None:
    model, asked = make(), {"label": torch.tensor([1])}

    def sample(steps: int, spacing: str) -> torch.Tensor:
        return generate(model, asked, range(1), (16, 16), SamplerSettings(steps=steps, spacing=spacing))

    assert not torch.equal(sample(4, "uniform"), sample(4, "original_uniform"))
    with pytest.raises(UserError, match="original spacing"):
        sample(model.process.T, "original_uniform")
    with pytest.raises(UserError, match="spacing 'even' is unknown to DiscreteProcess; there are uniform"):
        sample(4, "even")
