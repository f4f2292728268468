"""Folders of diffusers: what its own classes make of ours, what comes back, and what is refused."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded.roundtrips import our_images, their_images
from safetensors.torch import load_file, save_file
from torch import nn

from ldm.checkpoint.source import unwrap
from ldm.config import AllowedTargets, build, load
from ldm.diffusion.process.spacing import uniform
from ldm.diffusion.sampling import ddim
from ldm.errors import MissingFile, UserError
from ldm.interop.diffusers import read_folder, write_folder
from ldm.interop.diffusers.autoencoder import write_autoencoder
from ldm.interop.diffusers.unet import write_unet
from ldm.interop.diffusers.weights import to_diffusers

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install -e .[dev]")
diffusers.utils.logging.disable_progress_bar()

WORDS = ["a", "red", "blue", "circle", "square"]
CAPTIONS = ["a red circle", "a blue square"]
KL: dict[str, Any] = {
    "target": "ldm.first_stage.KLAutoencoder",
    "params": {"channels": 4, "width": 64, "width_mult": [1, 1], "blocks_per_level": 1},
}
VQ: dict[str, Any] = {
    "target": "ldm.first_stage.VQAutoencoder",
    "params": {"channels": 3, "codebook_size": 32, "width": 64, "width_mult": [1, 2], "blocks_per_level": 1},
}
UNET = {"width": 64, "width_mult": [1, 2], "blocks_per_level": 1, "attention_at": [2]}
TEXT = {"width": 64, "depth": 2, "heads": 2, "head_channels": 32, "uncond_prob": 0.1}


def changed(node: dict[str, Any], **params: Any) -> dict[str, Any]:
    node = copy.deepcopy(node)
    node["params"].update(params)
    return node


def model_node(first_stage: dict[str, Any], channels: int, concat: int = 0, process: Any = None, **unet: Any) -> dict[str, Any]:
    network = {"target": "ldm.networks.UNet", "params": {"in_channels": channels + concat, "out_channels": channels, **UNET, **unet}}
    process = process or {"target": "ldm.diffusion.scaled_linear"}
    return {
        "target": "ldm.model.LatentDiffusion",
        "params": {"first_stage": first_stage, "network": network, "process": process},
    }


def made(node: dict[str, Any]) -> Any:
    """A model with nothing at zero, so that no difference hides behind a zero weight."""
    torch.manual_seed(0)
    model = build(node, AllowedTargets()).eval()
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.GroupNorm | nn.LayerNorm):
            nn.init.normal_(module.weight, float("Norm" in type(module).__name__), 0.1 if module.weight.ndim < 2 else 0.03)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0.0, 0.1)
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
    return model


def class_conditional() -> dict[str, Any]:
    node = model_node(VQ, 3, heads=2, context_channels=32, transformer_depth=2, attention_at=[1, 2])
    condition = {"target": "ldm.conditioning.ClassEmbedding", "params": {"num_classes": 5, "width": 32, "uncond_prob": 0.1}}
    return changed(node, conditioner=condition, scale=0.7)


def text_conditional() -> dict[str, Any]:
    tokenizer = {"target": "ldm.conditioning.WordTokenizer", "params": {"words": WORDS}}
    condition = {"target": "ldm.conditioning.TextTransformer", "params": {"tokenizer": tokenizer, "length": 6, **TEXT}}
    node = model_node(KL, 4, head_channels=32, context_channels=64, process={"target": "ldm.diffusion.cosine"})
    return changed(node, conditioner=condition, parameterization="v", scale=0.18215)


def inpainting() -> dict[str, Any]:
    image = {"target": "ldm.conditioning.ConcatImage", "params": {"key": "masked_image", "channels": 4, "encode": True}}
    mask = {"target": "ldm.conditioning.ConcatImage", "params": {"key": "mask", "channels": 1, "factor": 2}}
    joint = {"target": "ldm.conditioning.Joint", "params": {"parts": [image, mask]}}
    return changed(model_node(KL, 4, 5, head_channels=32, resample="residual", scale_shift=True), conditioner=joint, scale=1.3)


def with_bert(folder: Path) -> dict[str, Any]:
    """A text model as LDMTextToImagePipeline wants it: 77 word pieces, images eight times the size of the latents."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    tokenizer = {"target": "ldm.conditioning.BertTokenizer", "params": {"source": str(folder), "vocabulary_size": 10}}
    condition = {"target": "ldm.conditioning.TextTransformer", "params": {"tokenizer": tokenizer, "length": 77, **TEXT}}
    node = model_node(changed(KL, width_mult=[1, 1, 1, 1]), 4, heads=4, context_channels=64)
    return changed(node, conditioner=condition, scale=0.5)


def unconditional() -> dict[str, Any]:
    return model_node(VQ, 3, head_channels=32, attention_at=[1], dropout=0.1)


def batch_for(name: str) -> dict[str, Any]:
    g = torch.Generator().manual_seed(5)
    return {
        "unconditional": {},
        "class": {"label": torch.tensor([1, 4])},
        "text": {"caption": CAPTIONS},
        "inpainting": {
            "masked_image": torch.rand(2, 3, 16, 16, generator=g) * 2 - 1,
            "mask": (torch.rand(2, 1, 16, 16, generator=g) > 0.5).float(),
        },
    }[name]


ROOT = Path(__file__).resolve().parent.parent.parent


def same_back(model: Any, folder: Path) -> Any:
    """Reads the folder, builds what its node says, and holds the bits against the model's."""
    foreign = read_folder(folder)
    again = build(foreign.node, AllowedTargets()).eval()
    state = model.state_dict()
    assert again.state_dict().keys() == foreign.weights.keys() == state.keys()
    assert all(torch.equal(foreign.weights[name], state[name]) for name in state)
    again.load_state_dict(foreign.weights)
    return again


MODELS = {"unconditional": unconditional, "class": class_conditional, "text": text_conditional, "inpainting": inpainting}


@pytest.mark.parametrize("name", MODELS)
def test_diffusers_makes_the_same_images_and_the_folder_comes_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    node, batch = MODELS[name](), batch_for(name)
    model = made(node)
    notes = write_folder(model, node, tmp_path, size=16)
    assert (tmp_path / "model_index.json").is_file() == (name == "unconditional")
    assert any("no pipeline" in note for note in notes) == (name != "unconditional")
    start = torch.randn(2, model.first_stage.channels, 8, 8, generator=torch.Generator().manual_seed(3))
    ours, theirs = our_images(model, batch, start), their_images(model, tmp_path, batch, start)
    difference = float((ours - theirs).abs().max())
    print(f"{name}: largest difference {difference:.2e}, images from {float(ours.min()):.2f} to {float(ours.max()):.2f}")
    assert ours.std() > 0.05 and difference < 1e-4
    again = same_back(model, tmp_path)
    assert torch.equal(again.process.betas, model.process.betas) and again.parameterization == model.parameterization
    assert torch.equal(our_images(again, batch, start, 2), our_images(model, batch, start, 2))
    assert getattr(again.conditioner, "uncond_prob", 0.0) == model.conditioner.uncond_prob


def test_the_unconditional_pipeline_runs(tmp_path: Path) -> None:
    model = made(node := unconditional())
    write_folder(model, node, tmp_path, size=16)
    pipeline = diffusers.LDMPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(batch_size=2, generator=torch.Generator().manual_seed(7), num_inference_steps=10, output_type="np").images
    ours = our_images(model, {}, torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(7)))
    assert (torch.from_numpy(theirs) - (ours / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)).abs().max() < 1e-4


@pytest.mark.parametrize("logit_head", [False, True])
def test_the_text_pipeline_runs_with_guidance(tmp_path: Path, logit_head: bool) -> None:
    node = with_bert(tmp_path / "bert-tokens")
    node["params"]["conditioner"]["params"]["logit_head"] = logit_head
    model = made(node)
    assert write_folder(model, node, tmp_path / "out") == []
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out")
    assert type(pipeline).__name__ == "LDMTextToImagePipeline"
    pipeline.set_progress_bar_config(disable=True)
    start = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    theirs = pipeline(CAPTIONS, 32, 32, num_inference_steps=5, guidance_scale=3.0, latents=start, output_type="pt").images
    with torch.no_grad():
        z = ddim(model.denoiser({"caption": CAPTIONS}, 3.0), start, model.process, uniform(1000, 5), noise=torch.randn_like)
        assert (theirs - (model.decode(z) / 2 + 0.5).clamp(0, 1)).abs().max() < 1e-4
    again = same_back(model, tmp_path / "out")
    assert again.conditioner.tokenizer.source == str(tmp_path / "out" / "tokenizer")
    for file in (tmp_path / "out" / "conditioner").iterdir():
        file.unlink()
    if logit_head:
        same_back(model, tmp_path / "out")  # as a folder of others is: nothing in our own words


def test_the_super_resolution_pipeline_runs(tmp_path: Path) -> None:
    low_res = {"target": "ldm.conditioning.ConcatImage", "params": {"key": "low_res", "channels": 3}}
    node = changed(model_node(VQ, 3, 3, head_channels=32), conditioner=low_res)
    model, image = made(node), torch.rand(1, 3, 8, 8) * 2 - 1
    write_folder(model, node, tmp_path)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(image, num_inference_steps=4, eta=0.0, generator=torch.Generator().manual_seed(1), output_type="pt").images
    ours = our_images(model, {"low_res": image}, torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)), 4)
    assert (theirs - (ours.clamp(-1, 1) / 2 + 0.5)).abs().max() < 1e-4
    (tmp_path / "conditioner" / "conditioner.safetensors").unlink()
    same_back(model, tmp_path)
    node = changed(node, scale=0.5)  # which that pipeline would not look at
    assert any("no pipeline" in note for note in write_folder(made(node), node, tmp_path / "scaled"))


@pytest.mark.parametrize(
    "unet",
    [
        {"heads": 1, "attention_at": [1, 2]},
        {"heads": 4},
        {"heads": 4, "qkv_by_head": False},
        {"head_channels": 16, "attention_at": [1], "resample": "residual"},
        {"head_channels": 32, "scale_shift": True, "attention_at": [1, 2], "blocks_per_level": 2},
        {"heads": 4, "context_channels": 32, "scale_shift": True},
        {"head_channels": 32, "context_channels": 32, "attention_at": [1, 2], "transformer_depth": 2},
        {"head_channels": 32, "width_mult": [1, 2, 2], "attention_at": [1, 8], "resample": "residual", "checkpointing": True},
    ],
)
def test_unet_variants(unet: dict[str, Any], tmp_path: Path) -> None:
    node = model_node(KL, 4, **unet)
    width = unet.get("context_channels")
    if width:
        node["params"]["conditioner"] = {"target": "ldm.conditioning.ClassEmbedding", "params": {"num_classes": 2, "width": width}}
    model = made(node)
    write_folder(model, node, tmp_path)
    kind = diffusers.UNet2DConditionModel if width else diffusers.UNet2DModel
    theirs = kind.from_pretrained(tmp_path / "unet")
    z, t, context = torch.randn(2, 4, 8, 8), torch.tensor([3, 900]), torch.randn(2, 3, width) if width else None
    with torch.no_grad():
        ours = model.network(z, t, context)
        output = (theirs(z, t, encoder_hidden_states=context) if width else theirs(z, t)).sample
    assert (ours - output).abs().max() < 1e-4
    same_back(model, tmp_path)
    assert read_folder(tmp_path / "unet").node["params"].get("checkpointing") == unet.get("checkpointing")


@pytest.mark.parametrize(
    "node",
    [
        changed(KL, attention_at=[2], dropout=0.1),
        changed(KL, width_mult=[1, 2, 2], attention_at=[1, 4], initial_log_variance=-5.0, image_channels=1),
        changed(KL, middle_attention=False),
        changed(VQ, attention_at=[1, 2], legacy=False),
        changed(VQ, features=5),
    ],
)
def test_first_stages(node: dict[str, Any], tmp_path: Path) -> None:
    model = made(node)
    assert write_folder(model, node, tmp_path) == []
    kl = node["target"].endswith("KLAutoencoder")
    theirs = (diffusers.AutoencoderKL if kl else diffusers.VQModel).from_pretrained(tmp_path)
    x = torch.rand(2, model.image_channels, 16, 16) * 2 - 1
    with torch.no_grad():
        z = theirs.encode(x).latent_dist.mean if kl else theirs.encode(x).latents
        assert (model.encode(x) - z).abs().max() < 1e-4
        assert (model.decode(z) - theirs.decode(z).sample).abs().max() < 1e-4
    same_back(model, tmp_path)
    params = read_folder(tmp_path).node["params"]
    assert {key: params.get(key, value) for key, value in node["params"].items()} == node["params"]


@pytest.mark.parametrize(
    "process",
    [
        {"target": "ldm.diffusion.scaled_linear", "params": {"start": 0.00085, "end": 0.012}},
        {"target": "ldm.diffusion.linear", "params": {"T": 100}},
        {"target": "ldm.diffusion.cosine"},
        {"target": "ldm.diffusion.cosine", "params": {"s": 0.01}},
        {"target": "ldm.diffusion.sqrt", "params": {"T": 100}},
    ],
)
def test_processes_and_their_steps(process: dict[str, Any], tmp_path: Path) -> None:
    node = changed(model_node(KL, 4, head_channels=32, process=process), parameterization="x0")
    model = made(node)
    write_folder(model, node, tmp_path)
    unnamed = "s" in process.get("params", {}) or process["target"].endswith("sqrt")  # no name there makes these numbers
    scheduler = diffusers.DDIMScheduler.from_pretrained(tmp_path, subfolder="scheduler")
    assert (scheduler.betas.double() / model.process.betas - 1).abs().max() < 1e-6
    assert scheduler.config.prediction_type == "sample" and bool(scheduler.config.trained_betas) == unnamed
    for steps in (1, 5, 20, 100):
        scheduler.set_timesteps(steps)
        assert [*scheduler.timesteps.tolist(), -1] == uniform(model.process.T, steps)
    assert torch.equal(same_back(model, tmp_path).process.betas, model.process.betas)
    values = json.loads((file := tmp_path / "scheduler" / "scheduler_config.json").read_text())
    file.write_text(json.dumps({**values, "trained_betas": scheduler.betas.tolist(), "_ldm": {}}))  # as others would write them
    found = read_folder(tmp_path).node["params"]["process"]
    assert found["target"] == ("ldm.diffusion.from_betas" if unnamed else process["target"])
    assert (build(found, AllowedTargets()).betas / model.process.betas - 1).abs().max() < 1e-6


def test_a_schedule_that_ends_in_pure_noise(tmp_path: Path) -> None:
    process = {"target": "ldm.diffusion.scaled_linear", "params": {"zero_terminal_snr": True}}
    node = changed(model_node(KL, 4, head_channels=32, process=process), parameterization="v")
    model = made(node)
    write_folder(model, node, tmp_path)
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    assert (our_images(model, {}, start) - their_images(model, tmp_path, {}, start)).abs().max() < 1e-4
    assert read_folder(tmp_path).node["params"]["process"] == process
    values = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195}
    values |= {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}  # as others write it
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(values))
    assert torch.equal(same_back(model, tmp_path).process.betas, model.process.betas)


@pytest.mark.parametrize("config", ["celebahq-ldm4", "imagenet-ldm4", "text-ldm8-kl"])
def test_full_size_names_and_shapes_are_those_of_the_classes(config: str) -> None:
    node = unwrap(load([ROOT / "configs" / "ldm" / f"{config}.yaml"]).data["model"]["params"]["model"])["params"]
    parts = {"network": write_unet(node["network"], 64), "first_stage": write_autoencoder(node["first_stage"], {"scale": 1.0}, 256)}
    for part, values in parts.items():
        with torch.device("meta"):
            ours = build(node[part], AllowedTargets())
            kind = getattr(diffusers, values["_class_name"])
            theirs = kind.from_config({key: value for key, value in values.items() if key != "_class_name"})
        expected = {name: value.shape for name, value in theirs.state_dict().items()}
        assert {name: value.shape for name, value in to_diffusers(ours).items()} == expected


def test_former_names_of_attention_and_clip_sample(tmp_path: Path) -> None:
    model = made(node := unconditional())
    write_folder(model, node, tmp_path)
    former = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for part in ("unet", "vqvae"):
        file = tmp_path / part / "diffusion_pytorch_model.safetensors"
        tensors = load_file(file)
        for new, old in former.items():
            tensors = {name.replace(f".{new}.", f".{old}."): value for name, value in tensors.items()}
        save_file(tensors, file)
    scheduler = tmp_path / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps({**json.loads(scheduler.read_text()), "clip_sample": True}))
    config = tmp_path / "vqvae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "scaling_factor": 1}))
    same_back(model, tmp_path)
    assert any("clip_sample=True only affects sampling" in note for note in read_folder(tmp_path).notes)


def test_a_folder_that_diffusers_wrote(tmp_path: Path) -> None:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    unet = diffusers.UNet2DModel(8, 3, 3, block_out_channels=(32, 64), layers_per_block=1, **blocks)
    vqvae = diffusers.VQModel(block_out_channels=(32,), scaling_factor=0.5)
    diffusers.LDMPipeline(vqvae=vqvae, unet=unet, scheduler=diffusers.DDIMScheduler(clip_sample=False)).save_pretrained(tmp_path)
    foreign = read_folder(tmp_path)
    model = build(foreign.node, AllowedTargets()).eval()
    model.load_state_dict(foreign.weights)
    z = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert (model.network(z, torch.tensor([5, 5])) - unet.eval()(z, 5).sample).abs().max() < 1e-4
        assert (model.decode(z) - vqvae.eval().decode(z / 0.5).sample).abs().max() < 1e-4
    stage = read_folder(tmp_path / "vqvae")
    assert stage.node["target"] == "ldm.first_stage.VQAutoencoder" and "scaling_factor 0.5" in stage.notes[0]


SPOILED = [  # file, key, value, message
    ("unet/config.json", "class_embed_type", "timestep", "class_embed_type='timestep' is not supported, expected None"),
    ("unet/config.json", "time_embedding_type", "fourier", "time_embedding_type='fourier'"),
    ("unet/config.json", "norm_num_groups", 16, "norm_num_groups=16 is not supported, expected 32"),
    ("unet/config.json", "norm_eps", 1e-6, "norm_eps=1e-06"),
    ("unet/config.json", "act_fn", "gelu", "act_fn='gelu'"),
    ("unet/config.json", "center_input_sample", True, "center_input_sample=True"),
    ("unet/config.json", "flip_sin_to_cos", False, "flip_sin_to_cos=False"),
    ("unet/config.json", "freq_shift", 1, "freq_shift=1"),
    ("unet/config.json", "downsample_type", "resnet", "levels that are all joined in the same way"),
    ("unet/config.json", "down_block_types", ["SkipDownBlock2D", "DownBlock2D"], "'SkipDownBlock2D'"),
    ("unet/config.json", "add_attention", False, "add_attention=False"),
    ("unet/config.json", "resnet_time_scale_shift", "ada_group", "resnet_time_scale_shift='ada_group'"),
    ("unet/config.json", "unheard_of", 3, "unknown parameter 'unheard_of'"),
    ("unet/config.json", "_class_name", "UNet1DModel", "_class_name='UNet1DModel' is not supported"),
    ("unet/config.json", "block_out_channels", "wide", "block_out_channels='wide'|not of the expected kind"),
    ("unet/config.json", "block_out_channels", [], "not of the expected kind"),
    ("vqvae/config.json", "layers_per_block", None, "config.json: ldm.first_stage.VQAutoencoder: TypeError"),
    ("vqvae/config.json", "norm_type", "spatial", "norm_type='spatial'"),
    ("vqvae/config.json", "down_block_types", ["AttnDownEncoderBlock2D", "DownEncoderBlock2D"], "the mirror of down_block_types"),
    ("vqvae/config.json", "out_channels", 4, "out_channels=4"),
    ("vqvae/config.json", "layers_per_block", 2, "does not fit its config.json: missing"),
    ("vqvae/config.json", "num_vq_embeddings", 16, r"quantize.embedding.weight is \(32, 3\), expected \(16, 3\)"),
    ("scheduler/scheduler_config.json", "trained_betas", "few", "not of the expected kind"),
    ("scheduler/scheduler_config.json", "prediction_type", "flow", "prediction_type='flow'"),
    ("scheduler/scheduler_config.json", "beta_schedule", "sigmoid", "beta_schedule='sigmoid'"),
    ("scheduler/scheduler_config.json", "_class_name", "FlowMatchEulerDiscreteScheduler", "_class_name='FlowMatch"),
    ("model_index.json", "_class_name", "StableDiffusionPipeline", "_class_name='StableDiffusionPipeline' is not supported"),
    ("model_index.json", "text_encoder", ["transformers", "CLIPTextModel"], "text_encoder is CLIPTextModel: .*Stable Diffusion"),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    node = unconditional()
    write_folder(made(node), node, folder)
    return folder


@pytest.mark.parametrize("file,key,value,message", SPOILED, ids=lambda value: str(value)[:24])
def test_settings_that_we_cannot_express_are_named(written: Path, file: str, key: str, value: Any, message: str) -> None:
    path = written / file
    before = path.read_text()
    try:
        path.write_text(json.dumps({**json.loads(before), key: value}))
        with pytest.raises(UserError, match=message) as error:
            read_folder(written)
        assert str(written) in str(error.value) and "\n" not in str(error.value)
    finally:
        path.write_text(before)


@pytest.mark.parametrize(
    "key,value",
    [
        ("use_linear_projection", True),
        ("only_cross_attention", True),
        ("dual_cross_attention", True),
        ("attention_head_dim", [2, 3]),
        ("cross_attention_dim", [32, 16]),
        ("conv_in_kernel", 5),
    ],
)
def test_settings_of_networks_with_context(tmp_path: Path, key: str, value: Any) -> None:
    node = class_conditional()
    write_folder(made(node), node, tmp_path)
    file = tmp_path / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(UserError, match=f"unet/config.json: {key}="):
        read_folder(tmp_path)


def test_split_weights_and_the_pipeline_on_a_kl_first_stage(tmp_path: Path) -> None:
    node = changed(model_node(KL, 4, head_channels=32), scale=0.9)
    model = made(node)
    assert any("made for a VQModel" in note for note in write_folder(model, node, tmp_path, size=16))
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    diffusers.UNet2DModel.from_pretrained(tmp_path / "unet").save_pretrained(tmp_path / "unet", max_shard_size="1MB")
    file.unlink()
    assert len(list(file.parent.glob("*-of-*.safetensors"))) > 1
    same_back(model, tmp_path)
    pipeline = diffusers.LDMPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(generator=torch.Generator().manual_seed(7), num_inference_steps=4, output_type="np").images
    ours = our_images(model, {}, torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7)), 4)
    assert (torch.from_numpy(theirs) - (ours / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)).abs().max() < 1e-4
    next(file.parent.glob("*-00002-of-*.safetensors")).unlink()
    with pytest.raises(MissingFile, match="-00002-of-"):
        read_folder(tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="no such folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(MissingFile, match="config.json: does not exist"):
        read_folder(tmp_path)
    node = class_conditional()
    write_folder(made(node), node, tmp_path)
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    kept = weights.rename(tmp_path / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(MissingFile, match=r"diffusion_pytorch_model.safetensors: does not exist.*diffusion_pytorch_model.bin is pickled"):
        read_folder(tmp_path)
    weights.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        read_folder(tmp_path)
    kept.rename(weights)
    (tmp_path / "conditioner" / "conditioner.safetensors").unlink()
    with pytest.raises(MissingFile, match="nothing else says what the network's tokens are"):
        read_folder(tmp_path)


REFUSED = [  # changes of the network or of the first stage, message
    ({"head_channels": 32, "vector_channels": 5}, {}, "vector_channels"),
    ({"heads_up": 4, "heads": 2}, {}, "heads_up=4"),
    ({"head_channels": 32, "resample": "pool"}, {}, "resample='pool'"),
    ({"heads": 2, "attention_at": [1, 2]}, {}, r"heads=2 makes heads of \[32, 64\] channels"),
    ({"head_channels": 24, "width": 48}, {}, "48 channels are not a multiple of 32"),
    ({"head_channels": 32, "width_mult": [2, 2]}, {}, "width_mult starts with 2"),
    ({"head_channels": 32}, {"stem": 2}, "stem=2"),
    ({"head_channels": 32}, {"features": 8}, "features=8"),
    ({"head_channels": 32}, {"width": 16}, "16 channels are not a multiple of 32"),
]


@pytest.mark.parametrize("unet,stage,message", REFUSED)
def test_what_diffusers_cannot_express_is_refused_and_nothing_is_written(unet: Any, stage: Any, message: str, tmp_path: Path) -> None:
    node = model_node(changed(KL, **stage), 4, **unet)
    condition = {"target": "ldm.conditioning.LabelVector", "params": {"num_classes": 5}} if "vector_channels" in unet else None
    node = changed(node, conditioner=condition)
    with pytest.raises(UserError, match=message):
        write_folder(build(node, AllowedTargets()), node, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_refusals(tmp_path: Path) -> None:
    node = model_node(KL, 4, head_channels=32)
    model = build(node, AllowedTargets())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    unnamed = {"target": "ldm.checkpoint.load.pretrained", "params": {"checkpoint": "x"}}
    identity = {"target": "ldm.first_stage.IdentityFirstStage", "params": {"channels": 4}}
    for spoiled, folder, size, message in (
        (node, "full", 16, "already exists"),
        (node, "out", 18, "size 18: expected a multiple of 4"),
        (changed(node, first_stage=unnamed), "out", 16, "'ldm.checkpoint.load.pretrained' cannot be written"),
        (changed(node, first_stage=identity), "out", 16, "IdentityFirstStage' cannot be written"),
        (changed(node, first_stage=changed(KL, blocks_per_level=2)), "out", 16, "the node does not describe the model"),
        ({"target": "ldm.networks.UNet"}, "out", 16, "'ldm.networks.UNet' cannot be written"),
    ):
        with pytest.raises(UserError, match=message):
            write_folder(model, spoiled, tmp_path / folder, size)
    flow = changed(node, process={"target": "ldm.diffusion.RectifiedFlow"}, parameterization="velocity")
    for spoiled, message in (
        (flow, "process RectifiedFlow: expected one with discrete timesteps"),
        (changed(node, scale=[1.0, 2.0, 3.0, 4.0]), "a scale or a mean for each channel"),
        (changed(node, mean=[0.0, 1.0, 0.0, 0.0]), "a scale or a mean for each channel"),
    ):
        with pytest.raises(UserError, match=message):
            write_folder(build(spoiled, AllowedTargets()), spoiled, tmp_path / "out")
    unscaled = changed(node, scale="std")
    with pytest.raises(UserError, match="scale is nan"):
        write_folder(build(unscaled, AllowedTargets()), unscaled, tmp_path / "out")
