"""Parameter names here and in diffusers' state dicts.

Layouts differ in attention: what are 1x1 convolutions here are linear maps there, and fused queries, keys and values are three maps there.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ldm.first_stage.diffusers import DiffusersAutoencoder
from ldm.first_stage.kl import KLAutoencoder
from ldm.first_stage.vq import VQAutoencoder
from ldm.interop.names import TRANSFORMER_BLOCKS, Entry, Rules, Table, levels, renamed
from ldm.networks.unet import UNet
from ldm.nn.attention import SelfAttention2d, SingleHeadAttention
from ldm.nn.transformer import TokenTransformer

Prefixes = Iterator[tuple[str, str]]
_BLOCK = r"blocks\.(\d+)\."
_SHARED = (
    ("conv_in", "conv_in"),
    ("norm_out", "conv_norm_out"),
    ("conv_out", "conv_out"),
    ("in_norm", "norm1"),
    ("in_conv", "conv1"),
    ("emb", "time_emb_proj"),
    ("out_norm", "norm2"),
    ("out_conv", "conv2"),
    ("skip", "conv_shortcut"),
    ("conv", "conv"),
    ("(q|k|v|qkv)", r"to_\1"),
    ("out", "to_out.0"),
)
_UNET = (
    *_SHARED,
    (r"time\.0", "time_embedding.linear_1"),
    (r"time\.2", "time_embedding.linear_2"),
    ("(proj_in|proj_out)", r"\1"),
    *TRANSFORMER_BLOCKS,
)
_NORM, _NORM_WITH_CONTEXT = ("norm", "group_norm"), ("norm", "norm")  # of attention
_AUTOENCODER = (
    *_SHARED,
    _NORM,
    ("(?:to_moments|to_codes)", "quant_conv"),
    ("(?:from_latent|from_codes)", "post_quant_conv"),
    (r"codebook\.embedding", "quantize.embedding"),
)
_TOKENS = (
    ("tokens", "model.embed_tokens"),
    ("positions", "model.embed_positions"),
    ("norm", "model.layer_norm"),
    ("logits", "to_logits"),
    (_BLOCK + "norm1", r"model.layers.\1.self_attn_layer_norm"),
    (_BLOCK + "norm2", r"model.layers.\1.final_layer_norm"),
    (_BLOCK + r"mlp\.0", r"model.layers.\1.fc1"),
    (_BLOCK + r"mlp\.2", r"model.layers.\1.fc2"),
    (_BLOCK + r"attention\.(q|k|v|out)", r"model.layers.\1.self_attn.\2_proj"),
)


def table_of(module: nn.Module) -> Table:
    """Names and layouts of every tensor of a part.

    Raises:
        TypeError: a part that diffusers does not have.
        ValueError: a parameter that is missing in the table (a bug).
    """
    if isinstance(module, DiffusersAutoencoder):
        return {name: Entry((name.removeprefix("net."),)) for name in module.state_dict()}
    for kind, (numbered, rules_of) in _PARTS.items():
        if isinstance(module, kind):
            prefixes, rules = dict(numbered(module)), rules_of(module)
            return {name: _entry(module, name, renamed(name, prefixes, rules), value) for name, value in module.state_dict().items()}
    raise TypeError(f"{type(module).__name__} has no counterpart in diffusers")


def _entry(module: nn.Module, name: str, theirs: str, value: Tensor) -> Entry:
    path = name.split(".")
    owner = module.get_submodule(".".join(path[:-2]))  # of the map
    if isinstance(owner, SelfAttention2d) and path[-2] == "qkv":
        return _fused(theirs, owner, value.shape)
    if isinstance(owner, SelfAttention2d | SingleHeadAttention) and value.ndim > 2:
        return Entry((theirs,), lambda ours: (ours.flatten(1),), lambda pieces: pieces[0].reshape(value.shape))
    return Entry((theirs,))


def _fused(theirs: str, attention: SelfAttention2d, shape: torch.Size) -> Entry:
    """Rows are (head, q/k/v, d) or (q/k/v, head, d) here, and (head, d) in each of the three there."""
    axis, parts = (1, (attention.heads, 3, -1)) if attention.qkv_by_head else (0, (3, attention.heads, -1))

    def store(ours: Tensor) -> list[Tensor]:
        return [part.flatten(0, 1) for part in ours.flatten(min(1, ours.ndim - 1)).unflatten(0, parts).unbind(axis)]

    def load(pieces: Sequence[Tensor]) -> Tensor:
        return torch.stack([piece.unflatten(0, (attention.heads, -1)) for piece in pieces], dim=axis).reshape(shape)

    return Entry(tuple(theirs.replace("to_qkv", f"to_{one}") for one in "qkv"), store, load)


def _unet(unet: UNet) -> Prefixes:
    for way in ("down", "up"):
        for i, level in enumerate(getattr(unet, way)):
            for j in range(len(level.blocks)):
                yield f"{way}.{i}.blocks.{j}.res.", f"{way}_blocks.{i}.resnets.{j}."
                yield f"{way}.{i}.blocks.{j}.attention.", f"{way}_blocks.{i}.attentions.{j}."
            yield f"{way}.{i}.{way}.", f"{way}_blocks.{i}.{way}samplers.0."
    yield from {"middle.0.": "mid_block.resnets.0.", "middle.1.": "mid_block.attentions.0.", "middle.2.": "mid_block.resnets.1."}.items()


def _autoencoder(stage: KLAutoencoder | VQAutoencoder) -> Prefixes:
    yield from _half(stage.encoder.down, stage.encoder.middle, "encoder", "down")
    yield from _half(stage.decoder.up, stage.decoder.middle, "decoder", "up")


def _half(stack: nn.Sequential, middle: nn.Sequential, half: str, way: str) -> Prefixes:
    """Levels are numbered in the order in which they run."""
    yield f"{half}.", f"{half}."
    for i, level, block in levels(stack):
        if block is None:
            yield f"{half}.{way}.{i}.", f"{half}.{way}_blocks.{level}.{way}samplers.0."
        else:
            yield f"{half}.{way}.{i}.0.", f"{half}.{way}_blocks.{level}.resnets.{block}."
            yield f"{half}.{way}.{i}.1.", f"{half}.{way}_blocks.{level}.attentions.{block}."
    yield f"{half}.middle.0.", f"{half}.mid_block.resnets.0."
    yield f"{half}.middle.1.", f"{half}.mid_block.attentions.0."
    yield f"{half}.middle.{len(middle) - 1}.", f"{half}.mid_block.resnets.1."  # the same as the line above without attention


_PARTS: dict[type[nn.Module], tuple[Callable[[Any], Prefixes], Callable[[Any], Rules]]] = {
    UNet: (_unet, lambda unet: (*_UNET, _NORM if unet.context_channels is None else _NORM_WITH_CONTEXT)),
    KLAutoencoder: (_autoencoder, lambda _: _AUTOENCODER),
    VQAutoencoder: (_autoencoder, lambda _: _AUTOENCODER),
    TokenTransformer: (lambda _: iter(()), lambda _: _TOKENS),
}
