"""Stable Diffusion's text encoders: their nodes, and their weights under the names of `transformers`' CLIPTextModel."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ldm.errors import UserError
from ldm.interop.settings import Node, Settings

TARGET = "ldm.conditioning.PretrainedText"
THEIRS = "cond_stage_model."
HERE = "cond_stage_model.transformer.text_model."
OPEN_CLIP = {  # its architectures: depth of the text half, and the folder or hub name of the same encoder for `transformers`
    "ViT-H-14": (24, "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"),
    "ViT-g-14": (24, "laion/CLIP-ViT-g-14-laion2B-s12B-b42K"),
    "ViT-bigG-14": (32, "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"),
    "ViT-L-14": (12, "laion/CLIP-ViT-L-14-laion2B-s32B-b82K"),
    "ViT-B-32": (12, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
}
NAMES = {  # OpenCLIP's -> transformers'
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final": "final_layer_norm",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def clip(p: Settings) -> Node:
    """`FrozenCLIPEmbedder` (Stable Diffusion 1) -> `PretrainedText`."""
    made = {"source": p.take("version", "openai/clip-vit-large-patch14"), "length": p.take("max_length", 77)}
    p.expect("layer", "last")
    p.expect("layer_idx", None)
    _pass_over(p)
    return {"target": TARGET, "params": made}


def open_clip(p: Settings) -> Node:
    """`FrozenOpenCLIPEmbedder` (Stable Diffusion 2) -> `PretrainedText`, whose last block or blocks are left out."""
    arch, layer = p.take("arch", "ViT-H-14"), p.take("layer", "last")
    if arch not in OPEN_CLIP:
        raise UserError(
            f"{p.where}: arch={arch!r} is not known (expected {', '.join(OPEN_CLIP)}); write the same encoder as cond_stage_config: "
            "{target: ldm.modules.encoders.modules.FrozenCLIPEmbedder, params: {version: FOLDER}}"
        )
    if layer not in ("last", "penultimate"):
        raise UserError(f"{p.where}: layer={layer!r} is not supported (expected 'last' or 'penultimate')")
    depth, source = OPEN_CLIP[arch]
    p.ignore("version")  # whose weights: they are inside the checkpoint, or those of the encoder's folder
    made = {"source": source, "length": p.take("max_length", 77), "layers": depth - (layer == "penultimate"), "pad": 0}
    _pass_over(p)
    return {"target": TARGET, "params": made}


def _pass_over(p: Settings) -> None:
    p.ignore("device", "freeze", "inpaint")  # it is frozen, and on the model's device
    p.done()


def with_names_of_transformers(state: Mapping[str, Tensor], params: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[str]]:
    """A state dict whose text encoder has the names of `transformers`, and the names of entries that are not used.

    Args:
        state: theirs, with a text encoder inside.
        params: of the `PretrainedText` of its config.
    """
    made: dict[str, Tensor] = {}
    dropped = []
    for key, value in state.items():
        for name, part in _pieces(key, value).items():
            layer = re.match(rf"{re.escape(HERE)}encoder\.layers\.(\d+)\.", name)
            if name == "" or (layer and params.get("layers") is not None and int(layer[1]) >= params["layers"]):
                dropped.append(key)
            else:
                made[name] = part
    return made, list(dict.fromkeys(dropped))


def _pieces(key: str, value: Tensor) -> dict[str, Tensor]:
    """One entry under its new names; the name is empty if it is not used: the image half, the projection into the shared space."""
    if key.startswith(THEIRS + "transformer."):
        return {HERE + key.removeprefix(THEIRS + "transformer.").removeprefix("text_model."): value}
    if not key.startswith(THEIRS + "model."):
        return {key: value}
    name = key.removeprefix(THEIRS + "model.")
    name = name.replace("transformer.resblocks.", "encoder.layers.")
    if name.endswith((".attn.in_proj_weight", ".attn.in_proj_bias")):
        block, leaf = name.split(".attn.in_proj_")
        return {f"{HERE}{block}.self_attn.{part}_proj.{leaf}": rows for part, rows in zip("qkv", value.chunk(3), strict=True)}
    for theirs, ours in NAMES.items():
        if name == theirs or re.search(rf"(^|\.){re.escape(theirs)}\.(weight|bias)$", name):
            return {HERE + name.replace(theirs, ours): value}
    return {"": value}
