"""Networks that measure, with random weights in the shape of the published files."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from imagesets import arrays, tiny_demo, tiny_file
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from ldm.errors import MissingFile, UserError
from ldm.evaluation.clip import ClipScorer
from ldm.evaluation.extractors import VGG, Demo, DinoV2, Inception, load_extractor, train_demo
from ldm.evaluation.weightfiles import INCEPTION
from ldm.system.files import file_sha256
from ldm.system.weights import save_weights

X = torch.from_numpy(arrays(2, size=48)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """torch-fidelity's own network with random weights, and these weights in a file."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Net

    torch.manual_seed(0)
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Net, "load_state_dict", lambda self, state: None)
        net = Net("inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=empty)
    file = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(net.state_dict(), file)
    return net, file


def test_inception_is_torch_fidelitys_from_a_local_file(inception: tuple[nn.Module, Path], tmp_path: Path) -> None:
    theirs, file = inception
    ours = Inception(file)
    found = ours(X)
    for name, value in zip(("2048", "logits_unbiased"), theirs(X), strict=True):
        assert torch.equal(found[name], value)
    assert found["2048"].shape == (2, 2048) and found["logits_unbiased"].shape == (2, 1008)
    assert ours.sha256 == file_sha256(file) and "TensorFlow 1" in ours.resize and "299" in ours.resize
    assert ours.frechet == "FD (Inception with weights that are not the published file)"  # random weights give no FID
    assert ours.title("IS").startswith("IS (Inception with weights that")
    assert INCEPTION.genuine("6726825d" + "0" * 56) and not INCEPTION.genuine(ours.sha256)
    # a network that is handed images that were resized otherwise sees something else: the resize belongs to the measure
    antialiased = F.interpolate(X.float(), size=(299, 299), mode="bilinear", antialias=True).round().clamp(0, 255).byte()
    gap = (ours(antialiased)["2048"] - found["2048"]).norm() / found["2048"].norm()
    assert gap > 1e-3
    save_file(theirs.state_dict(), tmp_path / "inception.safetensors")
    assert torch.equal(Inception(tmp_path / "inception.safetensors")(X[:1])["2048"], ours(X[:1])["2048"])


class Evil:
    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('executed')",))


def test_weight_files_are_read_safely_and_named_when_wrong(inception: tuple[nn.Module, Path], tmp_path: Path) -> None:
    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="evil.pth: not a complete file of torch-fidelity's Inception"):
        Inception(tmp_path / "evil.pth")
    half = inception[1].read_bytes()[:100_000]
    (tmp_path / "half.pth").write_bytes(half)
    with pytest.raises(UserError, match="half.pth: not a complete file"):
        Inception(tmp_path / "half.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="other.pth: not the weights of inception-v3-compat"):
        Inception(tmp_path / "other.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(UserError, match="list.pth: expected .* tensors by name"):
        Inception(tmp_path / "list.pth")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("inception", ["weights-inception-2015-12-05-6726825d.pth", "begins with 6726825d", "torch-fidelity"]),
        ("vgg16", ["vgg16-397923af.pth", "begins with 397923af", "download.pytorch.org"]),
        ("dinov2", ["dinov2-large", "facebook/dinov2-large"]),
    ],
)
def test_a_missing_file_is_one_line_that_says_which_and_where(tmp_path: Path, name: str, words: list[str]) -> None:
    with pytest.raises(MissingFile) as error:
        load_extractor(name, folder=tmp_path)
    line = str(error.value)
    assert "\n" not in line and all(word in line for word in words) and str(tmp_path) in line and "put it there" in line
    with pytest.raises(MissingFile, match="mine.pth"):
        load_extractor(name, "mine.pth", tmp_path)


class Narrow(nn.Module):
    """As deep as torchvision's VGG16 where torch-fidelity cuts it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 7, stride=32)
        self.classifier = nn.Sequential(
            nn.Linear(196, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, 4)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1))


def test_vgg_gives_its_second_hidden_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.models.vgg16", Narrow)
    torch.manual_seed(0)
    torch.save(Narrow().state_dict(), tmp_path / "vgg.pth")
    ours = VGG(tmp_path / "vgg.pth")
    found = ours(X)["fc2_relu"]
    assert found.shape == (2, 12) and found.min() == 0 and found.max() > 0 and torch.equal(ours(X)["fc2_relu"], found)
    assert ours.frechet.startswith("FD (VGG16")


def test_dinov2_with_the_resize_of_its_published_distances(tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    theirs = Dinov2Model(Dinov2Config(**sizes, patch_size=14, image_size=224)).eval()
    theirs.save_pretrained(tmp_path / "dino")
    ours = DinoV2(tmp_path / "dino")
    pictures = [Image.fromarray(x.permute(1, 2, 0).numpy()).resize((224, 224), Image.Resampling.BICUBIC) for x in X]
    pixels = torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        wanted = theirs((pixels - mean) / std).last_hidden_state[:, 0]
        torch.testing.assert_close(ours(X)["class token"], wanted, rtol=0.02, atol=0.02)  # Pillow rounds to 8 bit
    assert ours.software == ("transformers",)
    assert ours.frechet == "FD-DINOv2 (not ViT-L/14)" and DinoV2(tmp_path / "dino").sha256 == ours.sha256
    config = tmp_path / "dino" / "config.json"
    config.write_text(config.read_text().replace('"num_attention_heads": 2', '"num_attention_heads": 1'))
    other = DinoV2(tmp_path / "dino")  # the same weights, and another network: its features are not those of the first
    assert other.sha256 != ours.sha256 and not torch.allclose(other(X)["class token"], ours(X)["class token"], atol=1e-4)
    torch.save(theirs.state_dict(), tmp_path / "dino" / "pytorch_model.bin")
    (tmp_path / "dino" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="expected a folder with config.json and model.safetensors"):
        DinoV2(tmp_path / "dino")


def test_clip_scores_are_100_times_the_cosine(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", "a", "red", "blue"]
    tokens = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = CLIPTextConfig(**sizes, vocab_size=6, max_position_embeddings=8, pad_token_id=0, eos_token_id=1, bos_token_id=1)
    torch.manual_seed(0)
    theirs = CLIPModel(
        CLIPConfig(
            text_config=text.to_dict(), vision_config=CLIPVisionConfig(**sizes, image_size=48, patch_size=16).to_dict(), projection_dim=8
        )
    ).eval()
    theirs.save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="<pad>", eos_token="</s>", unk_token="<unk>").save_pretrained(tmp_path)
    ours = ClipScorer(tmp_path)
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    pixels = (X.float() / 255 - mean[:, None, None]) / std[:, None, None]
    scores = ours(X, ["a red", "blue"])
    for i, ids in enumerate(([3, 4, 1], [5, 1])):
        with torch.no_grad():
            output = theirs(input_ids=torch.tensor([ids]), pixel_values=pixels[i : i + 1])
        cosine = float(output.logits_per_image / theirs.logit_scale.detach().exp())
        assert float(scores[i]) == pytest.approx(100 * max(cosine, 0), abs=1e-3)
    assert ours(X, ["a " * 50, "blue"]).shape == (2,)  # cut


def test_the_demo_extractor_is_trained_once_and_never_gives_fid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("ldm.evaluation.extractors.train_demo", lambda: calls.append(1) or Demo(tiny_demo().net, "able"))
    first, again = (load_extractor("demo", folder=tmp_path) for _ in range(2))
    assert calls == [1] and first.sha256 == again.sha256 and torch.equal(first(X)["coarsest map"], again(X)["coarsest map"])
    assert "(able)" in again.name and first.frechet == "FD (demo features)" and first.title("KD") == "KD (demo features)"
    assert load_extractor("demo", str(tiny_file(tmp_path / "mine.safetensors"))).sha256 == first.sha256
    with pytest.raises(MissingFile, match="typo.safetensors: no such file"):
        load_extractor("demo", str(tmp_path / "typo.safetensors"))
    assert calls == [1] and not (tmp_path / "typo.safetensors").exists()
    with pytest.raises(UserError, match="images of 4 pixels and more, these are 3x8"):
        first(torch.zeros(1, 3, 8, 3, dtype=torch.uint8))
    save_weights(tmp_path / "bad.safetensors", {"a": torch.zeros(1)}, {})
    with pytest.raises(UserError, match="bad.safetensors: not the weights of the small extractor"):
        load_extractor("demo", str(tmp_path / "bad.safetensors"))
    with pytest.raises(UserError, match="extractor 'vgg' is unknown; there are inception"):
        load_extractor("vgg")


def test_training_the_demo_extractor_is_repeatable() -> None:
    first = train_demo(steps=1)
    assert first.sha256 == train_demo(steps=1).sha256 and "% of held-out patches, chance is 1.6%" in first.name
