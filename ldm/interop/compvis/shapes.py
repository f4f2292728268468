"""The structure of an autoencoder by the names and shapes of its weights, for files that come without their YAML."""

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from ldm.errors import UserError
from ldm.interop.settings import Node

NEEDED = ("encoder.conv_in.weight", "encoder.conv_out.weight", "quant_conv.weight", "post_quant_conv.weight")


def node_of(state: Mapping[str, Tensor]) -> Node | None:
    """The first stage whose weights these are; None for other weights. Norms have 32 groups, as in all of their autoencoders.

    Raises:
        UserError: an autoencoder whose levels do not fit together.
    """
    if any(name not in state or state[name].ndim != 4 for name in NEEDED):
        return None
    width, image_channels = state["encoder.conv_in.weight"].shape[:2]
    levels, blocks = (1 + _highest(pattern, state) for pattern in (r"encoder\.down\.(\d+)\.", r"encoder\.down\.0\.block\.(\d+)\."))
    ends = [state.get(f"encoder.down.{i}.block.0.conv2.weight") for i in range(levels)]
    if not levels or any(end is None or len(end) % width for end in ends):
        raise UserError("the levels of its encoder cannot be read from its weights: put the YAML beside it")
    codebook = state.get("quantize.embedding.weight")
    channels, features = (side // (2 if codebook is None else 1) for side in state["quant_conv.weight"].shape[:2])
    params = {
        "channels": channels,
        **({} if codebook is None else {"codebook_size": len(codebook)}),
        "width": width,
        "width_mult": [len(end) // width for end in ends if end is not None],
        "blocks_per_level": blocks,
        "attention_at": [2**i for i in range(levels) if f"encoder.down.{i}.attn.0.q.weight" in state],
        "middle_attention": "encoder.mid.attn_1.q.weight" in state,
        "image_channels": image_channels,
        "features": None if features == channels else features,
    }
    return {"target": f"ldm.first_stage.{'KL' if codebook is None else 'VQ'}Autoencoder", "params": params}


def _highest(pattern: str, names: Collection[str]) -> int:
    """The highest number that a pattern finds, at most that of the names, for a name may have any number in it; -1 without one."""
    return min(len(names), max((int(found[1]) for name in names if (found := re.match(pattern, name))), default=-1))
