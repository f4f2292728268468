"""Negative conditions, starting images and known regions, on tiny random models."""

from dataclasses import replace

import pytest
import torch

from ldm.conditioning import ClassEmbedding, ConcatImage
from ldm.diffusion import Tiles, cosine
from ldm.diffusion.sampling import SAMPLERS
from ldm.errors import UserError
from ldm.first_stage import IdentityFirstStage, KLAutoencoder
from ldm.model import LatentDiffusion
from ldm.networks import UNet
from ldm.sampling.generate import SamplerSettings, _warn_once, generate
from ldm.sampling.options import SamplingOptions, latent_mask


def make(pixels: bool = False, labels: bool = False) -> LatentDiffusion:
    torch.manual_seed(0)
    stage = IdentityFirstStage(2) if pixels else KLAutoencoder(2, 32, [1, 1], 1)
    net = UNet(2, 2, 32, [1, 2], 1, heads=1, context_channels=8 if labels else None)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.03)
    return LatentDiffusion(stage, net, cosine(), ClassEmbedding(4, 8, uncond_prob=0.1) if labels else None, "v").eval()


def test_a_negative_condition_takes_the_place_of_the_null_condition() -> None:
    model, settings = make(labels=True), SamplerSettings(steps=3, scale=3.0)
    batch = {"label": torch.tensor([0, 1])}

    def images(label: int | None) -> torch.Tensor:
        negative = None if label is None else {"label": torch.tensor([label] * 2)}
        return generate(model, batch, range(2), (8, 8), settings, options=SamplingOptions(negative=negative))

    torch.testing.assert_close(images(4), images(None))  # 4 is the null class
    assert (images(2) - images(None)).abs().max() > 1e-4
    # against itself, guidance does nothing
    plain = generate(model, {"label": torch.tensor([2, 2])}, range(2), (8, 8), SamplerSettings(steps=3))
    itself = generate(
        model,
        {"label": torch.tensor([2, 2])},
        range(2),
        (8, 8),
        settings,
        options=SamplingOptions(negative={"label": torch.tensor([2, 2])}),
    )
    torch.testing.assert_close(itself, plain, atol=1e-5, rtol=0)


def test_guidance_says_no_more_of_a_models_training_than_its_config(caplog: pytest.LogCaptureFixture) -> None:
    _warn_once.cache_clear()
    model = make(labels=True)
    model.conditioner.uncond_prob = 0.0  # as of every released model, guided or not: their configs have no such key
    generate(model, {"label": torch.tensor([0])}, [0], (8, 8), SamplerSettings(steps=1, scale=3.0))
    assert "config has no uncond_prob" in caplog.text and "was trained without" not in caplog.text


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS])
def test_known_latents_are_kept(sampler: str) -> None:
    model, image = make(pixels=True), torch.rand(1, 2, 8, 8) * 2 - 1
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:6, 3:] = 1
    out = generate(model, {}, range(2), (8, 8), SamplerSettings(sampler, 4), options=SamplingOptions(known=image, mask=mask))
    outside = mask.expand(2, 2, 8, 8) == 0
    torch.testing.assert_close(out[outside], image.expand(2, 2, 8, 8)[outside])
    assert (out - image)[~outside].abs().mean() > 0.01 and (out[0] - out[1]).abs().max() > 0.01


def test_what_a_hole_hides_has_no_effect() -> None:
    model, mask = make(), torch.zeros(1, 1, 16, 16)
    mask[..., 5:11, 4:] = 1
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    image[1] = torch.where(mask[0] > 0, image[1], image[0])
    out = generate(model, {}, [0, 0], (16, 16), SamplerSettings(steps=3), options=SamplingOptions(known=image, mask=mask))
    assert torch.equal(out[0], out[1]) and out.std() > 0.01


def test_the_model_sees_the_known_region_at_every_step() -> None:
    model, image = make(pixels=True), torch.ones(1, 2, 8, 8)
    mask, seen = torch.zeros(1, 1, 8, 8), []
    mask[..., :4] = 1

    def watch(denoise):
        def denoise_and_look(z, t):
            seen.append((z[:, :, :, 4:] - model.process.alpha(t, z)) / model.process.sigma(t, z))
            return denoise(z, t)

        return denoise_and_look

    generate(model, {}, range(8), (8, 8), SamplerSettings(steps=5), options=SamplingOptions(known=image, mask=mask, guides=[watch]))
    noise = torch.stack(seen)  # what is over once the known image is taken away: fresh standard normal noise
    assert abs(float(noise.mean())) < 0.1 and 0.9 < float(noise.std()) < 1.1
    assert abs(float((noise[0] * noise[1]).mean())) < 0.1


def test_a_latent_cell_with_one_free_pixel_is_free() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[0, 0, 3, 4] = 1
    assert latent_mask(mask, 4).tolist() == [[[[0.0, 1.0], [0.0, 0.0]]]]


def test_a_starting_image_shows_more_at_lower_strength() -> None:
    model, image = make(), torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        there = model.decode(model.encode(image)).clamp(-1, 1)

    def distance(strength: float) -> float:
        options = SamplingOptions(start=image, strength=strength)
        return float((generate(model, {}, range(2), (16, 16), SamplerSettings(steps=20), options=options) - there).abs().mean())

    assert distance(0.05) < distance(0.4) < distance(1.0)
    steps = []
    generate(
        model,
        {},
        [0],
        (16, 16),
        SamplerSettings(steps=20),
        options=SamplingOptions(start=image, strength=0.4, on_step=lambda: steps.append(1)),
    )
    assert len(steps) == 8
    with pytest.raises(UserError, match="strength"):
        generate(model, {}, [0], (16, 16), SamplerSettings(steps=2), options=SamplingOptions(start=image, strength=0.0))


def test_tiles_give_images_of_any_size_and_do_not_depend_on_their_batch() -> None:
    model, settings = make(), SamplerSettings(steps=3, sampler="dpm_solver")
    images = [generate(model, {}, range(2), (32, 48), settings, options=SamplingOptions(tiles=Tiles(8, 4, n, 2))) for n in (1, 5)]
    assert images[0].shape == (2, 3, 32, 48)
    torch.testing.assert_close(images[0], images[1], atol=1e-5, rtol=0)


def test_tiles_bound_what_the_first_stage_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = make(), []
    for name in ("encode", "decode"):
        whole = getattr(model.first_stage, name)
        monkeypatch.setattr(model.first_stage, name, lambda x, _do=whole: seen.append(x.shape) or _do(x))
    image, mask = torch.rand(1, 3, 32, 48) * 2 - 1, torch.ones(1, 1, 32, 48)
    for options in (SamplingOptions(start=image), SamplingOptions(known=image, mask=mask)):
        generate(model, {}, range(2), (32, 48), SamplerSettings(steps=2), options=replace(options, tiles=Tiles(8, 4, 3, 2)))
    conditional = LatentDiffusion(model.first_stage, UNet(4, 2, 32, [1], 1, heads=1), cosine(), ConcatImage("masked_image", 2, encode=True))
    options = SamplingOptions(tiles=Tiles(8, 4, 3, 2))
    generate(conditional.eval(), {"masked_image": image}, [0], (32, 48), SamplerSettings(steps=1, scale=2.0), options=options)
    assert {shape[2:] for shape in seen} == {(16, 16), (8, 8)} and max(shape[0] for shape in seen) == 3
