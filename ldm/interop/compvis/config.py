"""CompVis constructor parameters -> nodes of our configs. An unknown parameter is an error that names it."""

from collections.abc import Mapping
from typing import Any

from ldm.errors import UserError

Node = dict[str, Any]


class Parameters:
    """A `params:` mapping that has to be read to its last key.

    Args:
        target: whose parameters they are, for messages.
        values: the mapping.
    """

    def __init__(self, target: str, values: Mapping[str, Any] | None) -> None:
        self.target, self.left = target, dict(values or {})

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key, which counts as read."""
        return self.left.pop(key, default)

    def require(self, key: str) -> Any:
        """The value of a key that must be there.

        Raises:
            UserError: if it is not.
        """
        if key not in self.left:
            raise UserError(f"{self.target}: params has no {key!r}")
        return self.left.pop(key)

    def expect(self, key: str, *allowed: Any) -> None:
        """See that a key has a value whose meaning this project has, or is absent.

        Raises:
            UserError: any other value.
        """
        value = self.left.pop(key, allowed[0])
        if value not in allowed:
            raise UserError(f"{self.target}: {key}={value!r} is not supported (expected {' or '.join(map(repr, allowed))})")

    def done(self) -> None:
        """See that nothing is left.

        Raises:
            UserError: names what is.
        """
        if self.left:
            raise UserError(f"{self.target}: unknown parameter {', '.join(map(repr, self.left))}")


def split(node: Any, what: str) -> tuple[str, dict[str, Any]]:
    """Target and params of one of their nodes.

    Raises:
        UserError: no node.
    """
    if not isinstance(node, Mapping) or not isinstance(node.get("target"), str):
        raise UserError(f"{what}: expected a node with target and params, got {node!r}")
    params = node.get("params")
    if params is not None and not isinstance(params, Mapping):
        raise UserError(f"{what}: {node['target']}: params must be a mapping, got {params!r}")
    return node["target"], dict(params or {})


def _way_down(p: Parameters) -> Node:
    """What the UNet and the classifier, which is half a UNet, share."""
    for key in ("use_fp16",):  # it changes nothing
        p.take(key)
    p.expect("dims", 2)
    head_channels, heads = p.take("num_head_channels", -1), p.take("num_heads", -1)
    if head_channels == -1 and heads == -1:
        raise UserError(f"{p.target}: needs num_heads or num_head_channels")
    updown, learned = p.take("resblock_updown", False), p.take("conv_resample", True)
    return {
        "in_channels": p.require("in_channels"),
        "width": p.require("model_channels"),
        "width_mult": list(p.take("channel_mult", (1, 2, 4, 8))),
        "blocks_per_level": p.require("num_res_blocks"),
        "attention_at": list(p.require("attention_resolutions")),
        "heads": heads if head_channels == -1 else None,
        "head_channels": None if head_channels == -1 else head_channels,
        "heads_first": not p.take("use_new_attention_order", False),
        "dropout": float(p.take("dropout", 0.0) or 0.0),
        "scale_shift": p.take("use_scale_shift_norm", False),
        "resample": "residual" if updown else "conv" if learned else "pool",
    }


def network(target: str, params: Mapping[str, Any] | None) -> Node:
    """`openaimodel.UNetModel` -> `ldm.networks.UNet`."""
    p = Parameters(target, params)
    p.take("image_size")  # it changes nothing
    p.expect("n_embed", None)
    made = _way_down(p)
    heads_up, legacy = p.take("num_heads_upsample", -1), p.take("legacy", True)
    transformer, context = p.take("use_spatial_transformer", False), p.take("context_dim")
    p.take("use_linear_in_transformer")  # the same maps of another shape
    for key in ("disable_self_attentions", "num_attention_blocks", "adm_in_channels"):
        p.expect(key, None)
    p.expect("disable_middle_self_attn", False)
    if isinstance(context, list):
        context = context[0]
    if transformer != (context is not None):
        raise UserError(f"{target}: use_spatial_transformer and context_dim go together")
    made |= {
        "out_channels": p.require("out_channels"),
        # Only the legacy plain attention heeds it: everywhere else their code derives the head's width from num_heads.
        "heads_up": heads_up if heads_up != -1 and made["head_channels"] is None and legacy and not transformer else None,
        "context_channels": context,
        "transformer_depth": p.take("transformer_depth", 1),
        "vector_channels": p.take("num_classes"),
        "checkpointing": p.take("use_checkpoint", False),
    }
    p.done()
    return {"target": "ldm.networks.UNet", "params": made}


def classifier(target: str, params: Mapping[str, Any] | None) -> Node:
    """`openaimodel.EncoderUNetModel` -> `ldm.networks.NoisyClassifier`."""
    p = Parameters(target, params)
    p.expect("pool", "attention")
    made = _way_down(p) | {"size": p.require("image_size"), "classes": p.require("out_channels")}
    p.take("use_checkpoint")
    p.take("num_heads_upsample")
    p.done()
    return {"target": "ldm.networks.NoisyClassifier", "params": made}


def _halves(target: str, config: Mapping[str, Any], channels: int) -> Node:
    """`ddconfig` -> what `KLAutoencoder` and `VQAutoencoder` share."""
    p = Parameters(f"{target}: ddconfig", config)
    kind = p.take("attn_type", "vanilla")
    if kind not in ("vanilla", "none"):
        raise UserError(f"{target}: ddconfig: attn_type={kind!r} is not supported: no released config uses it")
    for key, allowed in (("resamp_with_conv", True), ("use_linear_attn", False), ("give_pre_end", False), ("tanh_out", False)):
        p.expect(key, allowed)
    resolution, attended = p.require("resolution"), p.take("attn_resolutions", [])
    image_channels, out_channels = p.require("in_channels"), p.require("out_ch")
    if image_channels != out_channels:
        raise UserError(f"{target}: ddconfig: in_channels {image_channels} and out_ch {out_channels} differ")
    features, mult = p.require("z_channels"), list(p.take("ch_mult", (1, 2, 4, 8)))
    made: Node = {
        "channels": channels,
        "features": features if features != channels else None,
        "width": p.require("ch"),
        "width_mult": mult,
        "blocks_per_level": p.require("num_res_blocks"),
        # theirs are pixel sizes counted from `resolution` by halving, ours are factors
        "attention_at": [] if kind == "none" else [2**i for i in range(len(mult)) if resolution // 2**i in attended],
        "middle_attention": kind != "none",
        "image_channels": image_channels,
        "dropout": float(p.take("dropout", 0.0) or 0.0),
    }
    p.take("double_z")
    return made  # their constructor ignores whatever else stands in ddconfig


def kl_autoencoder(target: str, params: Mapping[str, Any] | None) -> Node:
    """`autoencoder.AutoencoderKL` -> `KLAutoencoder`; its loss is another node."""
    p = Parameters(target, params)
    channels = p.require("embed_dim")
    config = p.require("ddconfig")
    if not config.get("double_z", True):
        raise UserError(f"{target}: ddconfig: double_z must be true")
    for key in ("lossconfig", "ckpt_path", "ignore_keys", "image_key", "monitor", "ema_decay", "learn_logvar"):
        p.take(key)
    p.expect("colorize_nlabels", None)
    p.done()
    return {"target": "ldm.first_stage.KLAutoencoder", "params": _halves(target, config, channels)}


def vq_autoencoder(target: str, params: Mapping[str, Any] | None) -> Node:
    """`autoencoder.VQModel` or `VQModelInterface` -> `VQAutoencoder`; its loss is another node."""
    p = Parameters(target, params)
    channels, size = p.require("embed_dim"), p.require("n_embed")
    config = p.require("ddconfig")
    for key in ("lossconfig", "ckpt_path", "ignore_keys", "image_key", "monitor", "lr_g_factor", "scheduler_config", "batch_resize_range"):
        p.take(key)
    for key in ("colorize_nlabels", "remap"):
        p.expect(key, None)
    for key in ("sane_index_shape", "use_ema"):  # neither changes what the model computes
        p.take(key)
    p.done()
    return {"target": "ldm.first_stage.VQAutoencoder", "params": {"codebook_size": size, **_halves(target, config, channels)}}
