"""Parameter names here and in CompVis checkpoints.

Their UNet numbers its blocks in the order in which they run, so prefixes depend on the architecture.
"""

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from ldm.first_stage.kl import KLAutoencoder
from ldm.first_stage.vq import VQAutoencoder
from ldm.interop.names import TRANSFORMER_BLOCKS, Entry, Rules, Table, levels, renamed
from ldm.networks.classifier import NoisyClassifier
from ldm.networks.discriminator import PatchDiscriminator
from ldm.networks.unet import UNet
from ldm.nn.conv import Upsample
from ldm.nn.transformer import TokenTransformer

Prefixes = Iterator[tuple[str, str]]
_UNET = (
    (r"time\.(0|2)", r"time_embed.\1"),
    ("conv_in", "input_blocks.0.0"),
    ("norm_out", "out.0"),
    ("conv_out", "out.2"),
    ("vector", "label_emb"),
    ("in_norm", "in_layers.0"),
    ("in_conv", "in_layers.2"),
    ("emb", "emb_layers.1"),
    ("out_norm", "out_layers.0"),
    ("out_conv", "out_layers.3"),
    ("skip", "skip_connection"),
    ("(norm|qkv|proj_in|proj_out)", r"\1"),
    ("out", "proj_out"),
    *TRANSFORMER_BLOCKS,
)
_AUTOENCODER = (
    (r"((?:en|de)coder\.(?:conv_in|norm_out|conv_out))", r"\1"),
    ("(?:to_moments|to_codes)", "quant_conv"),
    ("(?:from_latent|from_codes)", "post_quant_conv"),
    (r"codebook\.embedding", "quantize.embedding"),
    ("in_norm", "norm1"),
    ("in_conv", "conv1"),
    ("out_norm", "norm2"),
    ("out_conv", "conv2"),
    ("skip", "nin_shortcut"),
    ("(norm|q|k|v)", r"\1"),
    ("out", "proj_out"),
)
_TOKENS = (
    ("tokens", "token_emb"),
    ("positions", "pos_emb.emb"),
    ("norm", "norm"),
    ("logits", "to_logits"),
    (r"attention\.([qkv])", r"1.to_\1"),
    (r"attention\.out", "1.to_out"),
)


def table_of(module: nn.Module) -> Table:
    """Names of every tensor of a part in a CompVis checkpoint of that part alone.

    Raises:
        TypeError: a part that their code does not have.
        ValueError: a parameter that is missing in the table (a bug).
    """
    for kind, (numbered, rules) in _PARTS.items():
        if isinstance(module, kind):
            prefixes = dict(numbered(module))
            table = {name: Entry((renamed(name, prefixes, rules),)) for name in module.state_dict()}
            if "vector.weight" in table:  # their label embedding (classes, width) is our linear map of one-hot vectors
                names = table["vector.weight"].names
                table["vector.weight"] = Entry(names, lambda value: (value.T,), lambda pieces: pieces[0].T.contiguous())
            return table
    raise TypeError(f"{type(module).__name__} has no counterpart in CompVis checkpoints")


def names_of(module: nn.Module) -> dict[str, str]:
    """Our names -> theirs, see `table_of`."""
    return {ours: entry.names[0] for ours, entry in table_of(module).items()}


def _unet(net: UNet | NoisyClassifier) -> Prefixes:
    number = 1
    for i, level in enumerate(net.down):
        for j in range(len(level.blocks)):  # type: ignore[arg-type]
            yield from _block(f"down.{i}.blocks.{j}", f"input_blocks.{number}")
            number += 1
        if level.down is not None:
            yield from _step(f"down.{i}.down", f"input_blocks.{number}.0", "op")
            number += 1
    for i in range(3):
        yield f"middle.{i}.", f"middle_block.{i}."
    number = 0
    for i, level in enumerate(getattr(net, "up", ())):
        for j in range(len(level.blocks)):
            yield from _block(f"up.{i}.blocks.{j}", f"output_blocks.{number}")
            number += 1
        # the step has the number of the last block
        yield from _step(f"up.{i}.up", f"output_blocks.{number - 1}.{1 + int(level.blocks[-1].attention is not None)}", "conv")
    yield from {"pool.qkv": "out.2.qkv_proj", "pool.out": "out.2.c_proj", "pool.positions": "out.2.positional_embedding"}.items()


def _block(ours: str, theirs: str) -> Prefixes:
    yield f"{ours}.res.", f"{theirs}.0."
    yield f"{ours}.attention.", f"{theirs}.1."


def _step(ours: str, theirs: str, convolution: str) -> Prefixes:
    """Between two levels: a residual block or a convolution."""
    yield f"{ours}.", f"{theirs}."
    yield f"{ours}.conv", f"{theirs}.{convolution}"


def _autoencoder(stage: KLAutoencoder | VQAutoencoder) -> Prefixes:
    """Levels are numbered by resolution, 0 the finest."""
    yield from _half(stage.encoder.down, stage.encoder.middle, "encoder", "down", 0, 1)
    steps = sum(isinstance(module, Upsample) for module in stage.decoder.up)
    yield from _half(stage.decoder.up, stage.decoder.middle, "decoder", "up", steps, -1)


def _half(stack: nn.Sequential, middle: nn.Sequential, half: str, way: str, first: int, change: int) -> Prefixes:
    for i, level, block in levels(stack, first, change):
        if block is None:
            yield f"{half}.{way}.{i}.conv", f"{half}.{way}.{level}.{way}sample.conv"
        else:
            yield f"{half}.{way}.{i}.0.", f"{half}.{way}.{level}.block.{block}."
            yield f"{half}.{way}.{i}.1.", f"{half}.{way}.{level}.attn.{block}."
    yield f"{half}.middle.0.", f"{half}.mid.block_1."
    yield f"{half}.middle.1.", f"{half}.mid.attn_1."
    yield f"{half}.middle.{len(middle) - 1}.", f"{half}.mid.block_2."  # the same as the line above without attention


def _tokens(transformer: TokenTransformer) -> Prefixes:
    for i in range(len(transformer.blocks)):
        attention, mlp = f"attn_layers.layers.{2 * i}.", f"attn_layers.layers.{2 * i + 1}."
        yield f"blocks.{i}.", attention
        yield f"blocks.{i}.norm1", f"{attention}0"
        yield f"blocks.{i}.norm2", f"{mlp}0"
        yield f"blocks.{i}.mlp.0", f"{mlp}1.net.0.0"
        yield f"blocks.{i}.mlp.2", f"{mlp}1.net.2"


_PARTS: dict[type[nn.Module], tuple[Callable[[Any], Prefixes], Rules]] = {
    UNet: (_unet, _UNET),
    NoisyClassifier: (_unet, _UNET),
    KLAutoencoder: (_autoencoder, _AUTOENCODER),
    VQAutoencoder: (_autoencoder, _AUTOENCODER),
    TokenTransformer: (_tokens, _TOKENS),
    PatchDiscriminator: (lambda _: iter(()), ((r"layers\.(\d+)", r"main.\1"),)),
}
