"""`UNet` -> `UNet2DModel` or `UNet2DConditionModel`: the settings, and what has no counterpart there."""

from typing import Any

from ldm.errors import UserError
from ldm.interop.diffusers.settings import OWN, changed, parameters
from ldm.interop.settings import Node
from ldm.networks.unet import UNet

TARGETS = {"ldm.networks.UNet": UNet}
GROUPS = 32  # of every norm there; ours has fewer where 32 does not divide the channels
OURS_ONLY = ("checkpointing", "qkv_by_head")  # the second is undone where weights are renamed
# (attends, residual join) -> block without and with context; None if there is no such block
DOWN: dict[tuple[bool, bool], tuple[str, str | None]] = {
    (False, False): ("DownBlock2D", "DownBlock2D"),
    (True, False): ("AttnDownBlock2D", "CrossAttnDownBlock2D"),
    (False, True): ("ResnetDownsampleBlock2D", None),
    (True, True): ("AttnDownBlock2D", None),
}
UP = {key: (plain.replace("Down", "Up"), context and context.replace("Down", "Up")) for key, (plain, context) in DOWN.items()}


def write_unet(node: Node, sample_size: int | None) -> dict[str, Any]:
    """`config.json` of a UNet.

    Args:
        node: of the network.
        sample_size: side of the latents that pipelines start from.

    Raises:
        UserError: something that neither diffusers class can express; says what and why.
    """
    p = parameters(node, "network", TARGETS)
    _refuse(p)
    widths = [p["width"] * mult for mult in p["width_mult"]]
    attends = [2**i in p["attention_at"] for i in range(len(widths))]
    residual, context = p["resample"] == "residual", p["context_channels"] is not None
    made = {
        "sample_size": sample_size,
        "in_channels": p["in_channels"],
        "out_channels": p["out_channels"],
        "block_out_channels": widths,
        "layers_per_block": p["blocks_per_level"],
        "down_block_types": [DOWN[a, residual][context] for a in attends],
        "up_block_types": [UP[a, residual][context] for a in reversed(attends)],
        "dropout": p["dropout"],
        "act_fn": "silu",
        "norm_num_groups": GROUPS,
        "norm_eps": 1e-5,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "center_input_sample": False,
        "downsample_padding": 1,
        "mid_block_scale_factor": 1,
        "resnet_time_scale_shift": "scale_shift" if p["scale_shift"] else "default",
    }
    if own := changed(p, UNet, OURS_ONLY):
        made[OWN] = own
    return {**made, **(_with_context(p, widths) if context else _without_context(p, widths, attends))}


def check_widths(where: str, p: dict[str, Any], groups: int = GROUPS) -> None:
    """Require, as diffusers does, a first level as wide as the first convolution, and widths that the groups of norms divide."""
    if p["width_mult"][0] != 1:
        raise UserError(f"{where}: width_mult starts with {p['width_mult'][0]}: diffusers' first convolution is as wide as its first level")
    for mult in p["width_mult"]:
        if p["width"] * mult % groups:
            raise UserError(
                f"{where}: width {p['width']} * {mult} = {p['width'] * mult} channels are not a multiple of {groups}: diffusers uses norms "
                f"with {groups} groups, here there are fewer"
            )


def _refuse(p: dict[str, Any]) -> None:
    check_widths("network", p)
    if p["vector_channels"]:
        raise UserError("network: vector_channels: what diffusers adds to the time embedding comes from labels and has no null class")
    if p["resample"] == "pool":
        raise UserError("network: resample='pool': diffusers' levels are joined by convolutions or residual blocks")
    if p["resample"] == "residual" and p["context_channels"]:
        raise UserError("network: resample='residual' with context_channels: diffusers has no such blocks with spatial transformers")
    if p["heads_up"] not in (None, p["heads"]):
        raise UserError(f"network: heads_up={p['heads_up']}: diffusers has the same heads on the way up as on the way down")


def _with_context(p: dict[str, Any], widths: list[int]) -> dict[str, Any]:
    return {
        "_class_name": "UNet2DConditionModel",
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "cross_attention_dim": p["context_channels"],
        "transformer_layers_per_block": p["transformer_depth"],
        # in this class the key means the number of heads, whatever it is called
        "attention_head_dim": [p["heads"] or max(1, width // p["head_channels"]) for width in widths],
        "use_linear_projection": False,
    }


def _without_context(p: dict[str, Any], widths: list[int], attends: list[bool]) -> dict[str, Any]:
    join = "resnet" if p["resample"] == "residual" else "conv"
    return {
        "_class_name": "UNet2DModel",
        "mid_block_type": "UNetMidBlock2D",
        "add_attention": True,
        "attention_head_dim": _head_channels(p, widths, attends),
        "attn_norm_num_groups": GROUPS,  # with scale_shift the middle would have no norm without it
        "time_embedding_type": "positional",
        "downsample_type": join,
        "upsample_type": join,
    }


def _head_channels(p: dict[str, Any], widths: list[int], attends: list[bool]) -> int | None:
    """One width of heads for all levels; None means one head at every level."""
    if p["head_channels"]:
        return int(p["head_channels"])
    if p["heads"] == 1:
        return None
    found = {width // p["heads"] for width, attended in zip(widths, attends, strict=True) if attended} | {widths[-1] // p["heads"]}
    if len(found) > 1:
        raise UserError(
            f"network: heads={p['heads']} makes heads of {sorted(found)} channels: UNet2DModel has one width for all (head_channels)"
        )
    return found.pop()
