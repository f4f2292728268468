"""Tiny first stages as other programs store them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from ldm.config import AllowedTargets, build
from ldm.interop.compvis.autoencoder import write_first_stage
from ldm.interop.compvis.state import Weights, first_stage_to_state

STATISTICS = {"mean": torch.tensor([1.0, -2.0, 0.5, 3.0]), "std": torch.tensor([2.0, 4.0, 0.5, 8.0])}
BLOCKS = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2, "block_out_channels": [32, 64]}
DC = {
    "in_channels": 3,
    "latent_channels": 8,
    "attention_head_dim": 8,
    "encoder_block_types": ["ResBlock", "EfficientViTBlock"],
    "decoder_block_types": ["ResBlock", "EfficientViTBlock"],
    "encoder_block_out_channels": [16, 32],
    "decoder_block_out_channels": [16, 32],
    "encoder_layers_per_block": [1, 1],
    "decoder_layers_per_block": [1, 1],
    "encoder_qkv_multiscales": [[], [5]],
    "decoder_qkv_multiscales": [[], [5]],
    "scaling_factor": 0.41407,
}
TINY = {
    "encoder_block_out_channels": [16, 16],
    "decoder_block_out_channels": [16, 16],
    "num_encoder_blocks": [1, 1],
    "num_decoder_blocks": [1, 1],
}


@dataclass
class Other:
    """A stored first stage.

    Attributes:
        path: what a user would name.
        encode: images -> latents (the mode), by the code of its own program.
        latents: what it states of their scale and mean.
    """

    path: Path
    encode: Callable[[Tensor], Tensor]
    latents: dict[str, Any] | None


def of_diffusers(folder: Path, kind: str, **settings: Any) -> Callable[[Tensor], Tensor]:
    import diffusers

    torch.manual_seed(0)
    made = getattr(diffusers, kind)(**settings).eval()
    made.save_pretrained(folder)

    def encode(x: Tensor) -> Tensor:
        with torch.no_grad():
            found = made.encode(x)
        return found.latent_dist.mode() if hasattr(found, "latent_dist") else found[0]

    return encode


def kl(folder: Path, **more: Any) -> Callable[[Tensor], Tensor]:
    return of_diffusers(folder, "AutoencoderKL", **BLOCKS, **{"latent_channels": 4, **more})


def sd(folder: Path) -> Other:
    return Other(folder, kl(folder, scaling_factor=0.18215), {"scale": 0.18215})


def sdxl_file(folder: Path) -> Other:
    encode = kl(folder, scaling_factor=0.13025, force_upcast=True)
    return Other(folder / "diffusion_pytorch_model.safetensors", encode, {"scale": 0.13025})


def in_a_pipeline(folder: Path) -> Other:
    encode = kl(folder / "vae", scaling_factor=0.18215)
    parts = {"text_encoder": ["transformers", "CLIPTextModel"], "vae": ["diffusers", "AutoencoderKL"]}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **parts}))
    return Other(folder, encode, {"scale": 0.18215})


def sd3(folder: Path) -> Other:
    encode = kl(folder, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False)
    return Other(folder, encode, {"scale": 1.5305, "mean": [0.0609] * 4})


def with_statistics(folder: Path) -> Other:
    mean, std = STATISTICS["mean"].tolist(), STATISTICS["std"].tolist()
    encode = kl(folder, scaling_factor=0.5, latents_mean=mean, latents_std=std)
    return Other(folder, encode, {"scale": [0.5 / value for value in std], "mean": mean})


def vq(folder: Path) -> Other:
    encode = of_diffusers(folder / "vqvae", "VQModel", **BLOCKS, latent_channels=3, num_vq_embeddings=16, scaling_factor=0.7)
    return Other(folder, encode, {"scale": 0.7})


def dc(folder: Path) -> Other:
    return Other(folder, of_diffusers(folder, "AutoencoderDC", **DC), {"scale": 0.41407})


def tiny(folder: Path) -> Other:
    return Other(folder, of_diffusers(folder, "AutoencoderTiny", **TINY), None)


NODE: dict[str, Any] = {
    "target": "ldm.first_stage.KLAutoencoder",
    "params": {"channels": 4, "width": 32, "width_mult": [1, 2], "blocks_per_level": 1, "attention_at": [2]},
}


def compvis(folder: Path, node: dict[str, Any] = NODE) -> tuple[dict[str, Tensor], dict[str, Any], Callable[[Tensor], Tensor]]:
    """State dict, YAML and encoder of an autoencoder of theirs."""
    torch.manual_seed(0)
    made = build(node, AllowedTargets()).eval()
    folder.mkdir(parents=True)
    return first_stage_to_state(made, Weights(dict(made.state_dict()))), write_first_stage(node, alone=True), torch.no_grad()(made.encode)


def compvis_checkpoint(folder: Path) -> Other:
    state, tree, encode = compvis(folder)
    torch.save({"state_dict": state, "global_step": 3}, folder / "model.ckpt")
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": tree}))
    return Other(folder / "model.ckpt", encode, None)


def compvis_without_yaml(folder: Path) -> Other:
    state, _, encode = compvis(folder)
    save_file(state, folder / "sdxl_vae.safetensors", {"format": "pt"})
    return Other(folder / "sdxl_vae.safetensors", encode, None)


def compvis_vq(folder: Path) -> Other:
    params = {"channels": 3, "codebook_size": 16, "width": 32, "width_mult": [1, 1, 2], "blocks_per_level": 1, "middle_attention": False}
    state, _, encode = compvis(folder, {"target": "ldm.first_stage.VQAutoencoder", "params": params})
    torch.save(state, folder / "vq-f4.ckpt")
    return Other(folder / "vq-f4.ckpt", encode, None)


def compvis_model(folder: Path) -> Other:
    """A checkpoint of Stable Diffusion, of which only the first stage is needed."""
    state, tree, encode = compvis(folder)
    inside = {f"first_stage_model.{name}": value for name, value in state.items()}
    inside |= {"model.diffusion_model.x": torch.zeros(3), "cond_stage_model.transformer.x": torch.zeros(3)}
    torch.save({"state_dict": inside}, folder / "sd.ckpt")
    params = {"first_stage_config": tree, "scale_factor": 0.18215, "cond_stage_config": {"target": "sgm.modules.Anything"}}
    (folder / "sd.yaml").write_text(yaml.safe_dump({"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}}))
    return Other(folder / "sd.ckpt", encode, {"scale": 0.18215})


def va_vae(folder: Path) -> Other:
    """As LightningDiT's: entries of its training in file and YAML, statistics beside it."""
    state, tree, encode = compvis(folder)
    more = {"foundation_model.model.cls_token": torch.zeros(1, 1, 8), "linear_proj.weight": torch.zeros(8, 4, 1, 1)}
    torch.save({"state_dict": {**state, **more}}, folder / "vavae.pt")
    loss = {"target": "ldm.modules.losses.LPIPSWithDiscriminator", "params": {"disc_start": 1, "vf_weight": 0.1, "adaptive_vf": True}}
    tree["params"] |= {"monitor": "val/rec_loss", "use_vf": "dinov2", "reverse_proj": True, "lossconfig": loss}
    (folder / "vavae.yaml").write_text(yaml.safe_dump({"ckpt_path": "x.pt", "model": {"base_learning_rate": 1e-4, **tree}}))
    torch.save({name: value.view(1, 4, 1, 1) for name, value in STATISTICS.items()}, folder / "latents_stats.pt")
    latents = {"scale": (1 / STATISTICS["std"]).tolist(), "mean": STATISTICS["mean"].tolist()}
    return Other(folder / "vavae.pt", encode, latents)


EXPRESSED = (sd, sdxl_file, in_a_pipeline, sd3, with_statistics, vq)
WRAPPED = (dc, tiny)
COMPVIS = (compvis_checkpoint, compvis_without_yaml, compvis_vq, compvis_model, va_vae)
KINDS = (*EXPRESSED, *WRAPPED, *COMPVIS)
