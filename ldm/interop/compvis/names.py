"""Parameter names here and in CompVis checkpoints, found by walking our modules.

Their UNet numbers its blocks in the order in which they run, so a name depends on the architecture: a table of fixed
patterns could not do it. Tensors keep their layout, so converting is renaming, in both directions, bit by bit.
"""

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from ldm.first_stage.kl import KLAutoencoder
from ldm.first_stage.vq import VQAutoencoder
from ldm.networks.autoencoder import Decoder, Encoder
from ldm.networks.classifier import NoisyClassifier
from ldm.networks.discriminator import PatchDiscriminator
from ldm.networks.unet import UNet, UNetBlock
from ldm.nn.attention import SelfAttention2d, SingleHeadAttention, SpatialTransformer, TransformerBlock
from ldm.nn.conv import Downsample, ResBlock, Upsample
from ldm.nn.transformer import TokenTransformer

Prefixes = tuple[str, str]  # (our prefix, their prefix) of a module with parameters of its own
Names = dict[str, str]  # our parameter -> theirs


def names_of(module: nn.Module) -> Names:
    """Every entry of our module's state dict -> its name in a CompVis checkpoint of that part alone.

    Raises:
        TypeError: a part that their code does not have.
        ValueError: a parameter that this table forgets (a fault of this project).
    """
    for kind, walk in _WALKS.items():
        if isinstance(module, kind):
            return _complete(module, list(walk(module)))
    raise TypeError(f"{type(module).__name__} has no counterpart in CompVis checkpoints")


LEAVES = {"positions": "positional_embedding"}  # parameters that are no module's weight or bias


def _complete(module: nn.Module, pairs: list[Prefixes]) -> Names:
    prefixes = dict(pairs)
    names: Names = {}
    for key in module.state_dict():
        prefix, _, leaf = key.rpartition(".")
        if prefix not in prefixes:
            raise ValueError(f"no CompVis name for {type(module).__name__}'s {key}")
        names[key] = f"{prefixes[prefix]}.{LEAVES.get(leaf, leaf)}"
    return names


def _below(ours: str, theirs: str, table: dict[str, str]) -> Iterator[Prefixes]:
    for our_name, their_name in table.items():
        yield f"{ours}{our_name}", f"{theirs}{their_name}"


RES = {
    "in_norm": "in_layers.0",
    "in_conv": "in_layers.2",
    "emb": "emb_layers.1",
    "out_norm": "out_layers.0",
    "out_conv": "out_layers.3",
    "skip": "skip_connection",
}
AUTOENCODER_RES = {"in_norm": "norm1", "in_conv": "conv1", "out_norm": "norm2", "out_conv": "conv2", "skip": "nin_shortcut"}
SELF_ATTENTION = {"norm": "norm", "qkv": "qkv", "out": "proj_out"}
SINGLE_HEAD = {"norm": "norm", "q": "q", "k": "k", "v": "v", "out": "proj_out"}
CROSS_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}


def _transformer_block(ours: str, theirs: str) -> Iterator[Prefixes]:
    yield from _below(ours + "self_attention.", theirs + "attn1.", CROSS_ATTENTION)
    yield from _below(ours + "cross_attention.", theirs + "attn2.", CROSS_ATTENTION)
    yield from _below(ours, theirs, {"feed_forward.inner": "ff.net.0.proj", "feed_forward.out": "ff.net.2"})
    yield from _below(ours, theirs, {"norm1": "norm1", "norm2": "norm2", "norm3": "norm3"})


def _attention(module: nn.Module, ours: str, theirs: str) -> Iterator[Prefixes]:
    if isinstance(module, SelfAttention2d):
        yield from _below(ours, theirs, SELF_ATTENTION)
    elif isinstance(module, SpatialTransformer):
        yield from _below(ours, theirs, {"norm": "norm", "proj_in": "proj_in", "proj_out": "proj_out"})
        for i, block in enumerate(module.blocks):
            assert isinstance(block, TransformerBlock)
            yield from _transformer_block(f"{ours}blocks.{i}.", f"{theirs}transformer_blocks.{i}.")


def _join(module: nn.Module, ours: str, theirs: str) -> Iterator[Prefixes]:
    """The step between two levels: a residual block, or a convolution (pooling has none)."""
    if isinstance(module, ResBlock):
        yield from _below(ours + ".", theirs + ".", RES)
    else:
        yield f"{ours}.conv", f"{theirs}.{'op' if isinstance(module, Downsample) else 'conv'}"


def _unet_block(block: UNetBlock, ours: str, theirs: str) -> Iterator[Prefixes]:
    yield from _below(f"{ours}.res.", f"{theirs}.0.", RES)
    if block.attention is not None:
        yield from _attention(block.attention, f"{ours}.attention.", f"{theirs}.1.")


def _way_down(net: UNet | NoisyClassifier) -> Iterator[Prefixes]:
    yield from _below("", "", {"time.0": "time_embed.0", "time.2": "time_embed.2", "conv_in": "input_blocks.0.0", "norm_out": "out.0"})
    number = 1
    for i, level in enumerate(net.down):
        for j, block in enumerate(level.blocks):  # type: ignore[arg-type, union-attr]
            yield from _unet_block(block, f"down.{i}.blocks.{j}", f"input_blocks.{number}")
            number += 1
        if level.down is not None:
            yield from _join(level.down, f"down.{i}.down", f"input_blocks.{number}.0")  # type: ignore[arg-type]
            number += 1
    yield from _below("middle.0.", "middle_block.0.", RES)
    yield from _attention(net.middle[1], "middle.1.", "middle_block.1.")
    yield from _below("middle.2.", "middle_block.2.", RES)


def _classifier(net: NoisyClassifier) -> Iterator[Prefixes]:
    yield from _way_down(net)
    yield from _below("pool.", "out.2.", {"qkv": "qkv_proj", "out": "c_proj"})
    yield "pool", "out.2"


def _unet(unet: UNet) -> Iterator[Prefixes]:
    yield from _way_down(unet)
    yield from _below("", "", {"conv_out": "out.2", "vector": "label_emb"})
    number = 0
    for i, level in enumerate(unet.up):
        for j, block in enumerate(level.blocks):  # type: ignore[arg-type, union-attr]
            yield from _unet_block(block, f"up.{i}.blocks.{j}", f"output_blocks.{number}")
            number += 1
        if level.up is not None:
            place = 1 + int(block.attention is not None)  # it shares the last block's number
            yield from _join(level.up, f"up.{i}.up", f"output_blocks.{number - 1}.{place}")  # type: ignore[arg-type]


def _levels(stack: nn.Sequential, ours: str, theirs: str, level: int, step: int) -> Iterator[Prefixes]:
    """Blocks and steps of an autoencoder half; levels are numbered by resolution, 0 the finest."""
    block = 0
    for i, module in enumerate(stack):
        if isinstance(module, Downsample | Upsample):
            name = "downsample" if isinstance(module, Downsample) else "upsample"
            yield f"{ours}{i}.conv", f"{theirs}{level}.{name}.conv"
            level, block = level + step, 0
            continue
        yield from _below(f"{ours}{i}.0.", f"{theirs}{level}.block.{block}.", AUTOENCODER_RES)
        if len(module) > 1:  # type: ignore[arg-type]
            yield from _below(f"{ours}{i}.1.", f"{theirs}{level}.attn.{block}.", SINGLE_HEAD)
        block += 1


def _middle(middle: nn.Sequential, ours: str, theirs: str) -> Iterator[Prefixes]:
    resnets = 0
    for i, module in enumerate(middle):
        if isinstance(module, SingleHeadAttention):
            yield from _below(f"{ours}{i}.", f"{theirs}attn_1.", SINGLE_HEAD)
        else:
            resnets += 1
            yield from _below(f"{ours}{i}.", f"{theirs}block_{resnets}.", AUTOENCODER_RES)


def _encoder(encoder: Encoder) -> Iterator[Prefixes]:
    ends = {"encoder.conv_in": "encoder.conv_in", "encoder.norm_out": "encoder.norm_out", "encoder.conv_out": "encoder.conv_out"}
    yield from _below("", "", ends)
    yield from _levels(encoder.down, "encoder.down.", "encoder.down.", 0, 1)
    yield from _middle(encoder.middle, "encoder.middle.", "encoder.mid.")


def _decoder(decoder: Decoder) -> Iterator[Prefixes]:
    ends = {"decoder.conv_in": "decoder.conv_in", "decoder.norm_out": "decoder.norm_out", "decoder.conv_out": "decoder.conv_out"}
    yield from _below("", "", ends)
    steps = sum(isinstance(module, Upsample) for module in decoder.up)
    yield from _levels(decoder.up, "decoder.up.", "decoder.up.", steps, -1)
    yield from _middle(decoder.middle, "decoder.middle.", "decoder.mid.")


def _kl(stage: KLAutoencoder) -> Iterator[Prefixes]:
    yield from _encoder(stage.encoder)
    yield from _decoder(stage.decoder)
    yield from _below("", "", {"to_moments": "quant_conv", "from_latent": "post_quant_conv"})


def _vq(stage: VQAutoencoder) -> Iterator[Prefixes]:
    yield from _encoder(stage.encoder)
    yield from _decoder(stage.decoder)
    yield from _below("", "", {"to_codes": "quant_conv", "from_codes": "post_quant_conv", "codebook.embedding": "quantize.embedding"})


def _tokens(transformer: TokenTransformer) -> Iterator[Prefixes]:
    yield from _below("", "", {"tokens": "token_emb", "positions": "pos_emb.emb", "norm": "norm", "logits": "to_logits"})
    for i in range(len(transformer.blocks)):
        attention, mlp = f"attn_layers.layers.{2 * i}", f"attn_layers.layers.{2 * i + 1}"
        yield from _below(f"blocks.{i}.", "", {"norm1": f"{attention}.0", "norm2": f"{mlp}.0"})
        yield from _below(f"blocks.{i}.attention.", f"{attention}.1.", {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out"})
        yield from _below(f"blocks.{i}.mlp.", f"{mlp}.1.", {"0": "net.0.0", "2": "net.2"})


def _discriminator(discriminator: PatchDiscriminator) -> Iterator[Prefixes]:
    for i, module in enumerate(discriminator.layers):
        if any(True for _ in module.parameters()):
            yield f"layers.{i}", f"main.{i}"


_WALKS: dict[type[nn.Module], Callable[[Any], Iterator[Prefixes]]] = {
    UNet: _unet,
    NoisyClassifier: _classifier,
    KLAutoencoder: _kl,
    VQAutoencoder: _vq,
    TokenTransformer: _tokens,
    PatchDiscriminator: _discriminator,
}
