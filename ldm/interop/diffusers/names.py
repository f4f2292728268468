"""Parameter names here and in diffusers' state dicts, found by walking our modules.

A part's entries are renamed; where the layout differs too, the pair says how: our 1x1 convolutions in attention are linear
maps there, and our fused queries, keys and values are three maps there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from ldm.first_stage.kl import KLAutoencoder
from ldm.first_stage.vq import VQAutoencoder
from ldm.networks.autoencoder import Decoder, Encoder
from ldm.networks.unet import UNet, UNetBlock
from ldm.nn.attention import SelfAttention2d, SingleHeadAttention, SpatialTransformer
from ldm.nn.conv import Downsample, ResBlock, Upsample
from ldm.nn.transformer import TokenTransformer


@dataclass(frozen=True)
class Pair:
    """A module with parameters of its own, here and there.

    Attributes:
        ours: its prefix here.
        theirs: its prefix there; of a fused map, the prefix that its three maps share.
        layout: "same"; "linear" for a 1x1 convolution that is a linear map there; "fused" for queries, keys and values.
        heads: of a fused map.
        heads_first: whether a fused map is laid out as (head, q/k/v, d) here, or else as (q/k/v, head, d).
    """

    ours: str
    theirs: str
    layout: Literal["same", "linear", "fused"] = "same"
    heads: int = 1
    heads_first: bool = True


def pairs_of(module: nn.Module) -> dict[str, Pair]:
    """Our prefix -> pair, for every entry of our module's state dict.

    Raises:
        TypeError: a part that diffusers does not have.
        ValueError: a parameter that this table forgets (a fault of this project).
    """
    for kind, walk in _WALKS.items():
        if isinstance(module, kind):
            pairs = {pair.ours: pair for pair in walk(module)}
            for key in module.state_dict():
                if key.rpartition(".")[0] not in pairs:
                    raise ValueError(f"no diffusers name for {type(module).__name__}'s {key}")
            return pairs
    raise TypeError(f"{type(module).__name__} has no counterpart in diffusers")


def _below(ours: str, theirs: str, table: dict[str, str], layout: Literal["same", "linear"] = "same") -> Iterator[Pair]:
    for our_name, their_name in table.items():
        yield Pair(f"{ours}{our_name}", f"{theirs}{their_name}", layout)


RES = {"in_norm": "norm1", "in_conv": "conv1", "emb": "time_emb_proj", "out_norm": "norm2", "out_conv": "conv2", "skip": "conv_shortcut"}
CROSS_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}
BLOCK = {"norm1": "norm1", "norm2": "norm2", "norm3": "norm3", "feed_forward.inner": "ff.net.0.proj", "feed_forward.out": "ff.net.2"}
ENDS = {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"}


def _attention(module: nn.Module | None, ours: str, theirs: str) -> Iterator[Pair]:
    if isinstance(module, SpatialTransformer):
        yield from _below(ours, theirs, {"norm": "norm", "proj_in": "proj_in", "proj_out": "proj_out"})
        for i in range(len(module.blocks)):
            block, name = f"{ours}blocks.{i}.", f"{theirs}transformer_blocks.{i}."
            yield from _below(block, name, BLOCK)
            yield from _below(f"{block}self_attention.", f"{name}attn1.", CROSS_ATTENTION)
            yield from _below(f"{block}cross_attention.", f"{name}attn2.", CROSS_ATTENTION)
    elif isinstance(module, SelfAttention2d):
        yield Pair(f"{ours}norm", f"{theirs}group_norm")
        yield Pair(f"{ours}qkv", theirs, "fused", module.heads, module.heads_first)
        yield Pair(f"{ours}out", f"{theirs}to_out.0", "linear")
    elif isinstance(module, SingleHeadAttention):
        yield Pair(f"{ours}norm", f"{theirs}group_norm")
        yield from _below(ours, theirs, CROSS_ATTENTION, "linear")


def _join(module: nn.Module | None, ours: str, theirs: str) -> Iterator[Pair]:
    """The step between two levels: a residual block or a convolution."""
    if isinstance(module, ResBlock):
        yield from _below(f"{ours}.", f"{theirs}.0.", RES)
    elif module is not None:
        yield Pair(f"{ours}.conv", f"{theirs}.0.conv")


def _unet(unet: UNet) -> Iterator[Pair]:
    yield from _below("", "", {**ENDS, "time.0": "time_embedding.linear_1", "time.2": "time_embedding.linear_2"})
    yield from _below("middle.0.", "mid_block.resnets.0.", RES)
    yield from _attention(unet.middle[1], "middle.1.", "mid_block.attentions.0.")
    yield from _below("middle.2.", "mid_block.resnets.1.", RES)
    for way, join in (("down", "downsamplers"), ("up", "upsamplers")):
        for i, level in enumerate(getattr(unet, way)):
            for j, block in enumerate(level.blocks):
                assert isinstance(block, UNetBlock)
                yield from _below(f"{way}.{i}.blocks.{j}.res.", f"{way}_blocks.{i}.resnets.{j}.", RES)
                yield from _attention(block.attention, f"{way}.{i}.blocks.{j}.attention.", f"{way}_blocks.{i}.attentions.{j}.")
            yield from _join(getattr(level, way), f"{way}.{i}.{way}", f"{way}_blocks.{i}.{join}")


def _levels(stack: nn.Sequential, ours: str, theirs: str) -> Iterator[Pair]:
    """Blocks and steps of an autoencoder half; levels are numbered in the order in which they run."""
    level = block = 0
    for i, module in enumerate(stack):
        if isinstance(module, Downsample | Upsample):
            kind = "downsamplers" if isinstance(module, Downsample) else "upsamplers"
            yield Pair(f"{ours}{i}.conv", f"{theirs}{level}.{kind}.0.conv")
            level, block = level + 1, 0
            continue
        assert isinstance(module, nn.Sequential)
        yield from _below(f"{ours}{i}.0.", f"{theirs}{level}.resnets.{block}.", RES)
        if len(module) > 1:
            yield from _attention(module[1], f"{ours}{i}.1.", f"{theirs}{level}.attentions.{block}.")
        block += 1


def _half(half: Encoder | Decoder, name: str) -> Iterator[Pair]:
    yield from _below(f"{name}.", f"{name}.", ENDS)
    stack, way = (half.down, "down") if isinstance(half, Encoder) else (half.up, "up")
    yield from _levels(stack, f"{name}.{way}.", f"{name}.{way}_blocks.")
    resnets = 0
    for i, module in enumerate(half.middle):
        if isinstance(module, SingleHeadAttention):
            yield from _attention(module, f"{name}.middle.{i}.", f"{name}.mid_block.attentions.0.")
        else:
            yield from _below(f"{name}.middle.{i}.", f"{name}.mid_block.resnets.{resnets}.", RES)
            resnets += 1


def _kl(stage: KLAutoencoder) -> Iterator[Pair]:
    yield from _half(stage.encoder, "encoder")
    yield from _half(stage.decoder, "decoder")
    yield from _below("", "", {"to_moments": "quant_conv", "from_latent": "post_quant_conv"})


def _vq(stage: VQAutoencoder) -> Iterator[Pair]:
    yield from _half(stage.encoder, "encoder")
    yield from _half(stage.decoder, "decoder")
    yield from _below("", "", {"to_codes": "quant_conv", "from_codes": "post_quant_conv", "codebook.embedding": "quantize.embedding"})


def _tokens(transformer: TokenTransformer) -> Iterator[Pair]:
    ends = {"tokens": "model.embed_tokens", "positions": "model.embed_positions", "norm": "model.layer_norm", "logits": "to_logits"}
    yield from _below("", "", ends)
    names = {"norm1": "self_attn_layer_norm", "norm2": "final_layer_norm", "mlp.0": "fc1", "mlp.2": "fc2"}
    attention = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}
    for i in range(len(transformer.blocks)):
        yield from _below(f"blocks.{i}.", f"model.layers.{i}.", names)
        yield from _below(f"blocks.{i}.attention.", f"model.layers.{i}.self_attn.", attention)


_WALKS: dict[type[nn.Module], Callable[[Any], Iterator[Pair]]] = {
    UNet: _unet,
    KLAutoencoder: _kl,
    VQAutoencoder: _vq,
    TokenTransformer: _tokens,
}
