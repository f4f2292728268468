"""`UNet2DModel` and `UNet2DConditionModel` -> `UNet`. A setting that ours cannot express is an error."""

from itertools import pairwise
from typing import Any

from ldm.interop.diffusers.settings import Settings
from ldm.interop.diffusers.unet import DOWN, GROUPS, OURS_ONLY, UP
from ldm.interop.settings import Node

PLAIN, CONDITIONED = "UNet2DModel", "UNet2DConditionModel"
NOT_THERE = {  # keys whose other values change the computation -> the value that does not; the first is diffusers' default
    "center_input_sample": (False,),
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
    "mid_block_scale_factor": (1,),
    "downsample_padding": (1,),
    "act_fn": ("silu", "swish"),
    "norm_num_groups": (GROUPS,),
    "norm_eps": (1e-5,),
    "time_embedding_type": ("positional",),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
}
NOT_THERE_PLAIN = {"mid_block_type": ("UNetMidBlock2D",), "add_attention": (True,)}
NOT_THERE_CONDITIONED = {
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "only_cross_attention": (False,),
    "mid_block_only_cross_attention": (None, False),
    "dual_cross_attention": (False,),
    "use_linear_projection": (False,),
    "reverse_transformer_layers_per_block": (None,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "num_attention_heads": (None,),
    "addition_embed_type": (None,),
    "addition_time_embed_dim": (None,),
    "resnet_skip_time_act": (False,),
    "resnet_out_scale_factor": (1.0,),
    "time_embedding_act_fn": (None,),
    "timestep_post_act": (None,),
    "time_cond_proj_dim": (None,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "projection_class_embeddings_input_dim": (None,),
    "attention_type": ("default",),
    "class_embeddings_concat": (False,),
    "cross_attention_norm": (None,),
}
# diffusers' defaults for missing keys: (UNet2DModel, UNet2DConditionModel)
CHANNELS = {"in_channels": (3, 4), "out_channels": (3, 4)}
WIDTHS = ([224, 448, 672, 896], [320, 640, 1280, 1280])
DOWN_TYPES = (["DownBlock2D", *["AttnDownBlock2D"] * 3], [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"])
UP_TYPES = ([*["AttnUpBlock2D"] * 3, "UpBlock2D"], ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3])


def read_unet(settings: Settings, kind: str) -> Node:
    """The node of a network.

    Args:
        settings: of `config.json`.
        kind: the class it names, one of the two.

    Raises:
        UserError: a setting that `UNet` cannot express.
    """
    with_context = kind == CONDITIONED
    settings.ignore("sample_size", "num_train_timesteps", "upcast_attention", "addition_embed_type_num_heads")  # none changes the network
    for key, allowed in {**NOT_THERE, **(NOT_THERE_CONDITIONED if with_context else NOT_THERE_PLAIN)}.items():
        settings.expect(key, *allowed)
    widths = settings.take("block_out_channels", WIDTHS[with_context])
    settings.expect("time_embedding_dim", None, 4 * widths[0])
    if any(width % widths[0] for width in widths):
        raise settings.wrong("block_out_channels", widths, "multiples of the first")
    attends, resample = _levels(settings, with_context, len(widths))
    made: dict[str, Any] = {key: settings.take(key, default[with_context]) for key, default in CHANNELS.items()}
    made |= {
        "width": widths[0],
        "width_mult": [width // widths[0] for width in widths],
        "blocks_per_level": settings.same("layers_per_block", 2),
        "attention_at": [2**i for i, attended in enumerate(attends) if attended],
        "dropout": settings.take("dropout", 0.0),
        "scale_shift": _scale_shift(settings, with_context),
        "resample": resample,
        **_heads(settings, with_context, widths, attends),
    }
    if with_context:
        made["context_channels"] = settings.same("cross_attention_dim", 1280)
        made["transformer_depth"] = settings.same("transformer_layers_per_block", 1)
    settings.done()
    return {"target": "ldm.networks.UNet", "params": {**made, **settings.our_own(OURS_ONLY)}}


def _levels(settings: Settings, with_context: bool, number: int) -> tuple[list[bool], str]:
    """Which levels attend, and how levels are joined."""
    joins: set[bool] = set()
    attends: list[list[bool]] = []
    down, up = settings.take("down_block_types", DOWN_TYPES[with_context]), settings.take("up_block_types", UP_TYPES[with_context])
    for key, names, blocks, way in (("down_block_types", down, DOWN, "downsample_type"), ("up_block_types", up, UP, "upsample_type")):
        join = "conv" if with_context else settings.take(way, "conv")
        if join not in ("conv", "resnet"):
            raise settings.wrong(way, join, "'conv' or 'resnet'")
        known = {block[with_context]: kind for kind, block in blocks.items() if block[with_context] is not None}
        for name in names:
            if name not in known:
                raise settings.wrong(key, name, "blocks whose attention is that of this class")
        attends.append([known[name][0] for name in names])
        # the last level has no step; the blocks with plain attention have either
        joins |= {join == "resnet" if name.startswith("Attn") else known[name][1] for name in names[:-1]}
    if len(down) != number or attends[0] != attends[1][::-1]:
        raise settings.wrong("up_block_types", up, f"the mirror of down_block_types={down!r}, one per level")
    if len(joins) > 1:
        raise settings.wrong("down_block_types", down, "levels that are all joined in the same way, by convolutions or residual blocks")
    return attends[0], "residual" if True in joins else "conv"


def _scale_shift(settings: Settings, with_context: bool) -> bool:
    kind = settings.take("resnet_time_scale_shift", "default")
    if kind not in ("default", "scale_shift"):
        raise settings.wrong("resnet_time_scale_shift", kind, "'default' or 'scale_shift'")
    if not with_context:  # without a number the middle's attention has a norm only where this is "default"
        groups = settings.take("attn_norm_num_groups", None)
        if groups != GROUPS and (groups is not None or kind == "scale_shift"):
            raise settings.wrong("attn_norm_num_groups", groups, str(GROUPS))
    return bool(kind == "scale_shift")


def _heads(settings: Settings, with_context: bool, widths: list[int], attends: list[bool]) -> dict[str, int]:
    """`heads` or `head_channels` of our UNet."""
    if not with_context:
        found = settings.take("attention_head_dim", 8)
        return {"heads": 1} if found is None else {"head_channels": found}
    found = settings.take("attention_head_dim", 8)  # in this class the key means the number of heads
    heads = found if isinstance(found, list) else [found] * len(widths)
    used = [(h, w) for h, w, attended in zip(heads, widths, [*attends[:-1], True], strict=True) if attended]
    if all(a[0] == b[0] for a, b in pairwise(used)):
        return {"heads": used[0][0]}
    if any(w % h or w // h != used[0][1] // used[0][0] for h, w in used):
        raise settings.wrong("attention_head_dim", found, "one number of heads, or heads of one width, at all levels that attend")
    return {"head_channels": used[0][1] // used[0][0]}
