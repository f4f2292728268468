"""Stable Diffusion 1 and 2 as one file with its YAML: a random tiny model of the same structure, its text encoder inside."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from ldm.checkpoint.foreign import FOREIGN
from ldm.checkpoint.load import load_model
from ldm.checkpoint.read import read_source
from ldm.checkpoint.source import unwrap
from ldm.config import AllowedTargets, build, load
from ldm.diffusion.parameterization import PARAMETERIZATIONS
from ldm.errors import UserError
from ldm.interop.compvis.state import Weights, to_state
from ldm.model import LatentDiffusion

WIDTH, LENGTH = 32, 16
CAPTIONS = ["a red circle", ""]
UNET = {"image_size": 8, "in_channels": 4, "out_channels": 4, "model_channels": 32, "attention_resolutions": [1, 2], "num_res_blocks": 1}
UNET |= {"channel_mult": [1, 2], "use_spatial_transformer": True, "transformer_depth": 1, "context_dim": WIDTH, "legacy": False}
STAGE = {"double_z": True, "z_channels": 4, "resolution": 16, "in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 2]}
STAGE |= {"num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
HEADS = {1: {"num_heads": 8, "use_checkpoint": True}, 2: {"num_head_channels": 16, "use_linear_in_transformer": True, "use_fp16": True}}
ENCODERS = "ldm.modules.encoders.modules"
DEPTH = {1: 2, 2: 24}  # of the text encoder; that of OpenCLIP's ViT-H-14 is known by its name


def clip_folder(folder: Path, version: int) -> Path:
    """A tiny CLIP text encoder and its tokenizer (letters as tokens), as `transformers` stores them; its weights are other ones."""
    from transformers import CLIPTextConfig, CLIPTextModel

    letters = [chr(i) for i in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH}))
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": DEPTH[version], "num_attention_heads": 4}
    config = CLIPTextConfig(vocab_size=len(words), max_position_embeddings=LENGTH, **sizes, **ends)
    torch.manual_seed(5)
    CLIPTextModel(config).save_pretrained(folder)
    return folder


def encoder(folder: Path, seed: int = 7) -> Any:
    """What lies in the checkpoint: the architecture of the folder, other weights."""
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    return CLIPTextModel(CLIPTextConfig.from_pretrained(folder)).eval()


def tree(version: int, source: str) -> dict[str, Any]:
    """The YAML, as their repositories have it, but for the sizes."""
    if version == 1:
        text: dict[str, Any] = {"target": f"{ENCODERS}.FrozenCLIPEmbedder", "params": {"version": source, "max_length": LENGTH}}
    else:
        text = {"target": f"{ENCODERS}.FrozenOpenCLIPEmbedder", "params": {"freeze": True, "layer": "penultimate", "max_length": LENGTH}}
    params: dict[str, Any] = {"linear_start": 0.00085, "linear_end": 0.0120, "num_timesteps_cond": 1, "log_every_t": 200, "timesteps": 1000}
    params |= {"first_stage_key": "jpg", "cond_stage_key": "txt", "image_size": 8, "channels": 4, "cond_stage_trainable": False}
    params |= {"conditioning_key": "crossattn", "monitor": "val/loss_simple_ema", "scale_factor": 0.18215, "use_ema": False}
    params |= {"parameterization": "v"} if version == 2 else {}
    params["unet_config"] = {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": UNET | HEADS[version]}
    stage = {"embed_dim": 4, "monitor": "val/rec_loss", "ddconfig": STAGE, "lossconfig": {"target": "torch.nn.Identity"}}
    params["first_stage_config"] = {"target": "ldm.models.autoencoder.AutoencoderKL", "params": stage}
    params["cond_stage_config"] = text
    return {"model": {"base_learning_rate": 1e-4, "target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}}


def as_open_clip(text: Any) -> dict[str, Tensor]:
    """The encoder's weights as OpenCLIP names and packs them, with what belongs to its other half."""
    theirs: dict[str, Tensor] = {
        "logit_scale": torch.ones(()),
        "text_projection": torch.rand(WIDTH, WIDTH),
        "visual.proj": torch.rand(2, 2),
    }
    state = {name.removeprefix("text_model."): value for name, value in text.state_dict().items()}
    theirs["token_embedding.weight"] = state["embeddings.token_embedding.weight"]
    theirs["positional_embedding"] = state["embeddings.position_embedding.weight"]
    for leaf in ("weight", "bias"):
        theirs[f"ln_final.{leaf}"] = state[f"final_layer_norm.{leaf}"]
        for i in range(text.config.num_hidden_layers):
            here, there = f"encoder.layers.{i}.", f"transformer.resblocks.{i}."
            theirs[f"{there}attn.in_proj_{leaf}"] = torch.cat([state[f"{here}self_attn.{part}_proj.{leaf}"] for part in "qkv"])
            for ours, name in (("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2")):
                theirs[f"{there}{name}.{leaf}"] = state[f"{here}{ours}.{leaf}"]
            for ours, name in (("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):
                theirs[f"{there}{name}.{leaf}"] = state[f"{here}{ours}.{leaf}"]
    return {f"cond_stage_model.model.{name}": value for name, value in theirs.items()}


def released(folder: Path, version: int, name: str = "model.ckpt", hub: bool = False) -> Path:
    """The single file with its YAML beside it, and a CLIP folder `clip/`."""
    clip = clip_folder(folder / "clip", version)
    content = tree(version, "openai/clip-vit-large-patch14" if hub else str(clip))
    bare = json.loads(json.dumps(content))
    bare["model"]["params"]["cond_stage_config"] = {"target": "torch.nn.Identity"}  # the rest of the model, and its names there
    (folder / "bare.yaml").write_text(yaml.safe_dump(bare))
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    torch.manual_seed(3)
    model = build(unwrap(load([folder / "bare.yaml"], foreign=FOREIGN).data["model"]["params"]["model"]), AllowedTargets(), "model")
    assert isinstance(model, LatentDiffusion)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    state = to_state(model, Weights(dict(model.state_dict())))
    if version == 2:  # their maps into and out of the transformer are linear
        state = {
            key: value[:, :, 0, 0] if ".proj_" in key and value.ndim == 4 and "diffusion" in key else value for key, value in state.items()
        }
        state |= as_open_clip(encoder(clip))
    else:
        text = {name.removeprefix("text_model."): value for name, value in encoder(clip).state_dict().items()}
        state |= {f"cond_stage_model.transformer.text_model.{key}": value for key, value in text.items()}
        state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(LENGTH)[None]
    state["model_ema.decay"] = torch.tensor(0.9999)
    if name.endswith(".safetensors"):
        save_file({key: value.contiguous().clone() for key, value in state.items()}, folder / name, {"format": "pt"})
    else:
        torch.save({"state_dict": state, "global_step": 5}, folder / name)
    return folder / name


@torch.no_grad()
def expected_tokens(folder: Path, version: int) -> Tensor:
    """What their own code computes from the captions: the last states, or with the last block left out."""
    from transformers import CLIPTokenizer

    words = CLIPTokenizer.from_pretrained(folder)(CAPTIONS, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
    text, ids = encoder(folder), words["input_ids"]
    if version == 1:
        return text(input_ids=ids).last_hidden_state
    ids[words["attention_mask"] == 0] = 0
    before_last = text(input_ids=ids, output_hidden_states=True).hidden_states[-2]
    return getattr(text, "text_model", text).final_layer_norm(before_last)


@pytest.mark.parametrize("version", [1, 2])
@torch.no_grad()
def test_the_text_encoder_is_the_one_inside(tmp_path: Path, version: int) -> None:
    path = released(tmp_path, version)
    model = load_model(str(path), tokenizer=str(tmp_path / "clip")).model
    tokens = model.condition({"caption": CAPTIONS}).context
    assert tokens is not None and (tokens[0] - tokens[1]).abs().max() > 0.1
    torch.testing.assert_close(tokens, expected_tokens(tmp_path / "clip", version), atol=1e-4, rtol=1e-4)
    assert float(model.scale) == pytest.approx(0.18215) and model.parameterization is PARAMETERIZATIONS["v" if version == 2 else "eps"]


@pytest.mark.parametrize("version,name,words", [(1, "model.ckpt", False), (1, "model.safetensors", True), (2, "model.safetensors", True)])
def test_a_single_file_samples(script, tmp_path: Path, version: int, name: str, words: bool) -> None:
    path = released(tmp_path, version, name, hub=words)
    given = ["--tokenizer", tmp_path / "clip"] if words else []  # or the folder's name in the YAML
    more = ["--prompt", "a red circle", "--n", 1, "--steps", 2, "--scale", 3, "--device", "cpu", "--outdir", tmp_path / "out"]
    done = script("scripts/txt2img.py", path, *more, *given)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / "00000.png") as image:
        assert image.size == (16, 16)


def test_a_missing_encoder_says_what_to_fetch_and_how_to_name_it(script, tmp_path: Path) -> None:
    path = released(tmp_path, 1, hub=True)
    done = script("scripts/txt2img.py", path, "--prompt", "a", "--device", "cpu", "--outdir", tmp_path / "out")
    assert done.returncode == 3 and "hf download openai/clip-vit-large-patch14 --local-dir DIR" in done.stderr
    assert "--tokenizer DIR" in done.stderr


def test_a_file_without_its_encoder_takes_that_of_the_folder(tmp_path: Path) -> None:
    path = released(tmp_path, 1)
    state = torch.load(path, weights_only=True)["state_dict"]
    torch.save({"state_dict": {key: value for key, value in state.items() if not key.startswith("cond_stage_model.")}}, path)
    conditioner = load_model(str(path)).model.conditioner
    conditioner.load()
    theirs = encoder(tmp_path / "clip", seed=5)
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in conditioner.encoder.state_dict().items())


def test_an_encoder_that_the_config_does_not_find_is_named_when_converting(script, tmp_path: Path) -> None:
    path = released(tmp_path, 1, hub=True)
    words = ["scripts/convert.py", path, tmp_path / "ours.safetensors", "--to", "ldm", "--tokenizer", tmp_path / "clip"]
    done = script(*words)
    assert done.returncode == 0, done.stderr
    assert load_model(str(tmp_path / "ours.safetensors")).model.condition({"caption": CAPTIONS}).context is not None


def test_there_and_back_and_as_one_file_of_ours(script, tmp_path: Path) -> None:
    path = released(tmp_path, 1)
    assert script("scripts/convert.py", path, tmp_path / "ours.safetensors", "--to", "ldm").returncode == 0
    first, second = (load_model(str(p)).model.state_dict() for p in (path, tmp_path / "ours.safetensors"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    done = script("scripts/convert.py", tmp_path / "ours.safetensors", tmp_path / "back", "--to", "compvis")
    assert done.returncode == 0, done.stderr
    before, after = (read_source(str(p)).weights.tensors for p in (path, tmp_path / "back" / "model.ckpt"))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "version,change,message",
    [
        (1, {"layer": "hidden", "layer_idx": 11}, "layer='hidden' is not supported"),
        (2, {"arch": "ViT-X"}, r"arch='ViT-X' is not known .*FrozenCLIPEmbedder, params: \{version: FOLDER\}"),
        (2, {"layer": "all"}, "layer='all' is not supported"),
        (1, {"target": f"{ENCODERS}.FrozenT5Embedder"}, "FrozenT5Embedder'; there are .*FrozenCLIPEmbedder, FrozenOpenCLIPEmbedder"),
    ],
)
def test_encoders_that_are_not_here_say_what_is(tmp_path: Path, version: int, change: dict[str, Any], message: str) -> None:
    content = tree(version, "x")
    node = content["model"]["params"]["cond_stage_config"]
    node["target"] = change.pop("target", node["target"])
    node["params"] |= change
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=message):
        load([tmp_path / "config.yaml"], foreign=FOREIGN)
