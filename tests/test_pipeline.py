"""`ldm.load`: one object for notebooks and programs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ldm
from ldm.conditioning import TextTransformer, WordTokenizer
from ldm.diffusion import cosine
from ldm.errors import MissingFile, UserError
from ldm.first_stage import IdentityFirstStage
from ldm.model import LatentDiffusion
from ldm.networks import UNet
from ldm.pipeline import Pipeline

RUNS = Path(__file__).parent / "fixtures" / "runs"


@pytest.fixture
def text():
    return ldm.load(RUNS / "text", device="cpu")


def test_sampling_by_caption_gives_pictures_of_the_size_in_training(text) -> None:
    images = text.sample(n=3, prompt=["a red circle", "a blue square"], settings={"steps": 2, "scale": 2.0})
    assert len(images) == 3 and {image.size for image in images} == {text.size[::-1]}
    again = text.sample(n=1, prompt="a red circle", settings={"steps": 2, "scale": 2.0})
    assert np.array_equal(np.asarray(images[0]), np.asarray(again[0]))  # image i depends on (seed, i) alone


def test_a_negative_caption_changes_guided_pictures_and_nothing_else() -> None:
    words = TextTransformer(WordTokenizer(["red", "blue"]), 4, 8, 1, 2, 4, uncond_prob=0.1)
    network = UNet(1, 1, 32, [1], 1, [1], heads=2, context_channels=8)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model = Pipeline(LatentDiffusion(IdentityFirstStage(1), network, cosine(), words, "v"), {}, torch.device("cpu"))

    def made(scale: float, **more):
        return model.sample(n=1, prompt="red", size=(8, 8), output="tensor", settings={"steps": 2, "scale": scale}, **more)

    assert not torch.equal(made(3.0), made(3.0, negative="blue"))
    assert torch.equal(made(1.0), made(1.0, negative="blue"))


def test_batches_change_nothing(text) -> None:
    one, many = (text.sample(n=3, prompt="a", batch=size, settings={"steps": 2}, output="tensor") for size in (1, 3))
    assert one.shape[0] == 3 and torch.allclose(one, many, atol=2e-2)


def test_encode_and_decode_are_inverse_as_far_as_the_first_stage_is(text) -> None:
    x = torch.rand(2, text.first_stage.image_channels, *text.size) * 2 - 1
    z = text.encode(x)
    assert z.shape[0] == 2 and torch.equal(z, text.model.encode(x))
    assert torch.equal(text.decode(z, output="tensor"), text.model.decode(z).clamp(-1, 1))
    pictures = text.decode(z)
    assert all(isinstance(picture, Image.Image) for picture in pictures)
    assert text.encode(pictures).shape == z.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "this model reads caption: give caption=..."),
        ({"prompt": "a", "label": 3}, "label: this model reads caption"),
        ({"prompt": "a", "hour": 3}, "hour: this model reads caption"),
        ({"prompt": "a", "settings": {"sampler": "dimm"}}, "dimm"),
        ({"prompt": "a", "size": (7, 7)}, "image size 7x7"),
        ({"prompt": "a", "size": 16}, "size must be"),
        ({"prompt": "a", "n": 0}, "n must be at least 1"),
        ({"prompt": "a", "n": 1.5}, "n must be"),
        ({"prompt": "a", "batch": 0}, "batch must be at least 1"),
        ({"prompt": []}, "prompt: the list is empty"),
        ({"prompt": torch.zeros(2)}, "must be text"),
        ({"prompt": "a", "settings": {"step": 3}}, "settings: 'step' is unknown; there are sampler, steps"),
        ({"prompt": "a", "output": "np"}, "output 'np' is unknown; there are pil, tensor"),
    ],
)
def test_what_cannot_be_is_one_line(text, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        text.sample(**{"n": 1, **options})


def test_a_word_that_a_closed_vocabulary_lacks_is_named() -> None:
    words = TextTransformer(WordTokenizer(["red", "blue"]), 4, 8, 1, 2, 4, uncond_prob=0.1)
    network = UNet(1, 1, 32, [1], 1, [1], heads=2, context_channels=8)
    model = Pipeline(LatentDiffusion(IdentityFirstStage(1), network, cosine(), words, "v"), {}, torch.device("cpu"))
    for captions in ({"prompt": "green"}, {"prompt": "red", "negative": "green"}):
        with pytest.raises(UserError, match="vocabulary: green"):
            model.sample(n=1, size=(8, 8), **captions)


@pytest.mark.parametrize("images", [torch.zeros(2, 7, 16, 16), torch.zeros(1, 16, 16), []], ids=["channels", "3d", "none"])
def test_images_that_the_first_stage_does_not_take_are_one_line(text, images) -> None:
    with pytest.raises(UserError, match=r"images must be \(n, 3, H, W\)"):
        text.encode(images)


def test_classes_are_gone_through() -> None:
    model = ldm.load(RUNS / "class", device="cpu")
    assert len(model.sample(n=4, settings={"steps": 1})) == 4
    assert len(model.sample(n=2, label=1, settings={"steps": 1})) == 2
    two = [model.sample(n=2, label=label, settings={"steps": 1}, output="tensor") for label in ([0, 1], torch.tensor([0, 1]))]
    assert torch.equal(*two)
    for wrong in (torch.tensor([0, 10**6]), torch.tensor([0.5])):
        with pytest.raises(UserError, match="label"):
            model.sample(n=2, label=wrong, settings={"steps": 1})
    with pytest.raises(UserError, match="label"):
        model.sample(n=1, label=10**6, settings={"steps": 1})


def test_a_first_stage_encodes_and_decodes() -> None:
    model = ldm.load(RUNS / "kl", device="cpu")
    assert not isinstance(model, ldm.pipeline.Pipeline)
    x = torch.rand(2, model.first_stage.image_channels, 16, 16) * 2 - 1
    assert model.decode(model.encode(x), output="tensor").shape == x.shape


def test_nothing_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="nowhere"):
        ldm.load(tmp_path / "nowhere")


def test_a_config_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text("model: {}")
    with pytest.raises(UserError, match="model.yaml: a config, without weights; expected a run folder, weights"):
        ldm.load(tmp_path / "model.yaml")


def test_the_loss_of_a_model_trains_it_in_a_loop_of_ones_own(text) -> None:
    model = text.model.train()
    batch = {"image": torch.rand(8, text.first_stage.image_channels, *text.size) * 2 - 1, "caption": ["a red circle"] * 8}
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=1e-2)
    torch.manual_seed(0)
    losses = []
    for _ in range(30):
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])


def test_a_batch_without_what_the_model_reads_is_named(text) -> None:
    with pytest.raises(ValueError, match="the batch has no caption; it has image"):
        text.model.loss({"image": torch.zeros(1, text.first_stage.image_channels, *text.size)})


def test_importing_models_and_samplers_imports_no_more_than_torch() -> None:
    """Nor does sampling: torch's compiler, which building on the meta device and torchvision import, takes as long as torch."""
    modules = "ldm.model, ldm.sampling.generate, ldm.networks, ldm.diffusion.sampling, ldm.first_stage, ldm.conditioning, ldm.pipeline"
    code = (
        f"import sys, torch, ldm, {modules}, ldm.cli.sets, ldm.cli.inpaint, ldm.cli.superres\n"
        "heavy = {'pytorch_lightning', 'torchmetrics', 'transformers', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "images = ldm.load('tests/fixtures/runs/class').sample(2, label=1, settings={'steps': 2})\n"
        "ldm.data.grid.grid_of(torch.zeros(2, 3, 8, 8))\n"
        "compiler = {'torch._dynamo', 'torchvision', 'scipy', 'sympy'} & set(sys.modules)\n"
        "assert len(images) == 2 and not compiler, compiler\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
