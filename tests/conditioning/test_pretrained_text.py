"""CLIP's and T5's text encoders with random weights, saved to a folder as `transformers` saves them."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from demos.folders import FOLDERS
from ldm.check.shrink import shrink
from ldm.conditioning import PretrainedText
from ldm.diffusion import cosine
from ldm.errors import MissingFile, UserError
from ldm.first_stage import IdentityFirstStage
from ldm.model import LatentDiffusion
from ldm.networks import UNet
from ldm.sampling.generate import SamplerSettings, generate

WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "blue", "circle", "square"]


def encoder(folder: Path, kind: str, positions: int = 12) -> Path:
    """A tiny text encoder and its tokenizer, which ends captions with </s>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

    torch.manual_seed(0)
    small = {"vocab_size": len(WORDS), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
    if kind == "clip":
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        model = CLIPTextModel(CLIPTextConfig(**small, **sizes, max_position_embeddings=positions))
    else:
        model = T5EncoderModel(T5Config(**small, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2))
    model.save_pretrained(folder)
    tokens = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="<pad>", eos_token="</s>", unk_token="<unk>").save_pretrained(folder)
    return folder


def encode(x: torch.Tensor, scaled: bool = True) -> torch.Tensor:
    return x


@pytest.mark.parametrize("kind", ["clip", "t5"])
def test_tokens_are_the_encoders_own(tmp_path: Path, kind: str) -> None:
    text = PretrainedText(str(encoder(tmp_path, kind)), length=6, uncond_prob=0.1)
    assert text.context_channels == 16 and not text.loaded and text.missing() == []
    captions = {"caption": ["a red circle", "blue"]}
    context = text(captions, encode).context
    assert context.shape == (2, 6, 16) and text.loaded and not context.requires_grad
    from transformers import CLIPTextModel, T5EncoderModel

    theirs = (CLIPTextModel if kind == "clip" else T5EncoderModel).from_pretrained(tmp_path)
    alone = theirs(input_ids=torch.tensor([[5, 1]])).last_hidden_state  # without padding
    torch.testing.assert_close(context[1:, :2], alone)
    assert not text.train().encoder.training and not any(p.requires_grad for p in text.parameters())
    null = text.null(captions, encode).context
    torch.testing.assert_close(null, text({"caption": ["", ""]}, encode).context)
    assert text.drop(captions, [False, True])["caption"] == ["a red circle", ""]
    assert text({"caption": ["a " * 50]}, encode).context.shape == (1, 6, 16)  # cut


@pytest.mark.parametrize("kind", ["clip", "t5"])
def test_a_model_samples_with_it_and_stores_none_of_it(tmp_path: Path, kind: str) -> None:
    def model() -> LatentDiffusion:
        net = UNet(1, 1, 32, [1], 1, heads=1, context_channels=16)
        return LatentDiffusion(IdentityFirstStage(1), net, cosine(), PretrainedText(str(tmp_path), 6, 0.1)).eval()

    encoder(tmp_path, kind)
    one, two = model(), model()
    weights = one.state_dict()
    assert not any("encoder" in name for name in weights if name.startswith("conditioner."))
    two.load_state_dict(weights)  # strictly
    two.to("cpu")  # a move brings the weights
    assert two.conditioner.loaded and two.state_dict().keys() == weights.keys()
    images = generate(two, {"caption": ["a red circle"]}, range(1), (8, 8), SamplerSettings(steps=2, scale=2.0))
    assert torch.isfinite(images).all()
    with torch.device("meta"):
        counted = sum(p.numel() for p in model().conditioner.parameters())
    assert counted == sum(p.numel() for p in two.conditioner.parameters()) > 1000


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="hf download openai/nowhere --local-dir DIR"):
        PretrainedText("openai/nowhere")
    encoder(tmp_path, "t5")
    (tmp_path / "model.safetensors").unlink()
    text = PretrainedText(str(tmp_path), 6)
    assert "model.safetensors" in str(text.missing()[0])
    with pytest.raises(MissingFile, match="model.safetensors is not in that folder"):
        text.to("cpu")
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(UserError, match="cannot be read"):
        PretrainedText(str(tmp_path), 6).load()
    (tmp_path / "model.safetensors").rename(tmp_path / "model.safetensors.index.json")  # of shards that are not there
    with pytest.raises(UserError, match="model.safetensors.index.json cannot be read"):
        PretrainedText(str(tmp_path), 6).load()
    for gone in (str(tmp_path / "gone"), "./gone"):
        with pytest.raises(MissingFile, match="gone': no such folder$"):
            PretrainedText(gone)


def test_other_encoders_and_lengths_are_refused(tmp_path: Path) -> None:
    from transformers import BertConfig

    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(UserError, match="is a 'bert' model"):
        PretrainedText(str(tmp_path / "bert"))
    with pytest.raises(UserError, match="has 12 positions, length is 77"):
        PretrainedText(str(encoder(tmp_path / "clip", "clip")))


def test_a_narrow_step_needs_none_of_it() -> None:
    node = {"target": "ldm.conditioning.PretrainedText", "params": {"source": "nowhere", "length": 5, "uncond_prob": 0.1}}
    narrow = shrink({"conditioner": node})["conditioner"]
    assert narrow["target"] == "ldm.conditioning.TextTransformer" and narrow["params"]["uncond_prob"] == 0.1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "t5"])
def test_the_command_in_the_header_of_the_captions_config(kind: str, run, root: Path, tmp_path: Path) -> None:
    """As it is written there, with an encoder of another width."""
    FOLDERS["captions-jsonl"](tmp_path / "photos", 24)
    encoder(tmp_path / "CLIP", kind, positions=77)
    few = ["trainer.params.steps=2", "data.params.batch_size=4", "data.params.workers=0", "paths.images=photos"]

    def do(line: str, *more: str, code: int = 0) -> str:
        done = run(root / line.split()[1], *shlex.split(line)[2:], *more, cwd=tmp_path)
        assert done.returncode == code, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    do("python main.py --base configs/own/first-stage.yaml --train", *few)
    (first,) = tmp_path.glob("logs/*_first-stage")
    line = re.search(r"^#   (python main.py .*PretrainedText.*)$", (root / "configs/own/captions.yaml").read_text(), re.M)
    assert line is not None
    do(line[1].replace("=768", "=16"), *few, f"paths.first_stage={first}")
    (second,) = tmp_path.glob("logs/*_captions")
    do(f"python scripts/txt2img.py {second} --prompt 'a red circle' --n 2 --steps 2")
    assert len(list((tmp_path / "outputs" / "samples").glob("0*.png"))) == 2
    said = do(f"python scripts/publish.py {second} published --license mit", code=2)
    assert "--tokenizer openai/clip-vit-large-patch14" in said  # a folder of this machine cannot be published
