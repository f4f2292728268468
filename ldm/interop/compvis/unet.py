"""`openaimodel.UNetModel` <-> `UNet`, and `EncoderUNetModel` -> `NoisyClassifier`: the settings."""

from collections.abc import Mapping
from typing import Any

from ldm.errors import UserError
from ldm.interop.compvis.nodes import complete, name_of, refuse
from ldm.interop.keys import Key, read_keys, write_keys
from ldm.interop.settings import Node, Settings
from ldm.networks.unet import UNet

_WAY_DOWN = (  # what the UNet and the classifier, which is half a UNet, share
    Key("in_channels", "in_channels"),
    Key("width", "model_channels"),
    Key("width_mult", "channel_mult", (1, 2, 4, 8), list, list),  # a list is written even where it is their default, a tuple
    Key("blocks_per_level", "num_res_blocks"),
    Key("attention_at", "attention_resolutions", read=list, write=list),
    Key("qkv_by_head", "use_new_attention_order", False, lambda new: not new, lambda first: not first),
    Key("dropout", "dropout", 0.0, lambda value: float(value or 0.0), float),
    Key("scale_shift", "use_scale_shift_norm", False),
)
_UNET = (
    *_WAY_DOWN,
    Key("out_channels", "out_channels"),
    Key("vector_channels", "num_classes", None),
    Key("checkpointing", "use_checkpoint", False),
)


def _read_way_down(p: Settings) -> Node:
    p.ignore("use_fp16")
    p.expect("dims", 2)
    head_channels, heads = p.take("num_head_channels", -1), p.take("num_heads", -1)
    if head_channels == -1 and heads == -1:
        raise UserError(f"{p.where}: needs num_heads or num_head_channels")
    residual, learned = p.take("resblock_updown", False), p.take("conv_resample", True)
    return {
        "heads": heads if head_channels == -1 else None,
        "head_channels": None if head_channels == -1 else head_channels,
        "resample": "residual" if residual else "conv" if learned else "pool",
    }


def network(target: str, params: Mapping[str, Any] | None) -> Node:
    """`UNetModel` -> `UNet`."""
    p = Settings(target, params)
    p.ignore("image_size", "use_linear_in_transformer")  # the second: the same maps of another shape
    for key in ("n_embed", "disable_self_attentions", "num_attention_blocks", "adm_in_channels"):
        p.expect(key, None)
    p.expect("disable_middle_self_attn", False)
    made = _read_way_down(p) | read_keys(_UNET, p)
    heads_up, legacy = p.take("num_heads_upsample", -1), p.take("legacy", True)
    transformer, context = p.take("use_spatial_transformer", False), p.take("context_dim")
    if isinstance(context, list):
        context = context[0]
    if transformer != (context is not None):
        raise UserError(f"{target}: use_spatial_transformer and context_dim go together")
    made |= {
        # Only the legacy plain attention reads it: elsewhere their code derives the head's width from num_heads.
        "heads_up": heads_up if heads_up != -1 and made["head_channels"] is None and legacy and not transformer else None,
        "context_channels": context,
        "transformer_depth": p.take("transformer_depth", 1),
    }
    p.done()
    return {"target": "ldm.networks.UNet", "params": made}


def classifier(target: str, params: Mapping[str, Any] | None) -> Node:
    """`EncoderUNetModel` -> `NoisyClassifier`."""
    p = Settings(target, params)
    p.expect("pool", "attention")
    p.ignore("use_checkpoint", "num_heads_upsample")
    made = _read_way_down(p) | read_keys(_WAY_DOWN, p) | {"size": p.require("image_size"), "classes": p.require("out_channels")}
    p.done()
    return {"target": "ldm.networks.NoisyClassifier", "params": made}


def write_network(node: Node, size: int) -> Node:
    """`UNet` -> `UNetModel`; `size` is the latent's, which their code reads."""
    if name_of(node) != "UNet":
        raise refuse(f"network {node['target']}")
    apart = ("heads", "head_channels", "heads_up", "context_channels", "transformer_depth", "resample")
    p = complete(node, UNet, (*apart, *(key.ours for key in _UNET)))
    made = {"image_size": size, **write_keys(_UNET, p)}
    made |= {"num_heads": p["heads"]} if p["heads"] else {"num_head_channels": p["head_channels"]}
    if p["heads_up"]:
        made["num_heads_upsample"] = p["heads_up"]
    if p["context_channels"]:
        made |= {"use_spatial_transformer": True, "context_dim": p["context_channels"], "transformer_depth": p["transformer_depth"]}
    made |= {"conv": {}, "residual": {"resblock_updown": True}, "pool": {"conv_resample": False}}[p["resample"]]
    return {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": made}
