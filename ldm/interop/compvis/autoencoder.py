"""Their first stages <-> ours: the settings. Their losses are other nodes."""

from collections.abc import Mapping
from typing import Any

from ldm.errors import UserError
from ldm.first_stage import IdentityFirstStage, KLAutoencoder, VQAutoencoder
from ldm.interop.compvis.nodes import complete, name_of, refuse, split
from ldm.interop.keys import Key, read_keys, write_keys
from ldm.interop.settings import Node, Settings

AUTOENCODERS = ("autoencoder.AutoencoderKL", "autoencoder.VQModel", "autoencoder.VQModelInterface", "vqgan.VQModel")
LOSSES = (
    "torch.nn.Identity",
    "ldm.modules.losses.contperceptual.DummyLoss",
    "ldm.modules.losses.LPIPSWithDiscriminator",
    "ldm.modules.losses.contperceptual.LPIPSWithDiscriminator",
    "ldm.modules.losses.vqperceptual.VQLPIPSWithDiscriminator",
    "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator",
)
RESOLUTION = 256  # their attn_resolutions are pixel sizes counted from it; any number would do
_DDCONFIG = (
    Key("features", "z_channels"),
    Key("image_channels", "in_channels"),
    Key("width", "ch"),
    Key("width_mult", "ch_mult", (1, 2, 4, 8), list, list),  # a list is written even where it is their default, a tuple
    Key("blocks_per_level", "num_res_blocks"),
)


def first_stage(node: Any, channels: int) -> Node:
    """`first_stage_config` -> a first stage of ours; `channels` is the latent's depth where the tree itself has none."""
    target, params = split(node, "first_stage_config")
    loss = str((params.get("lossconfig") or {}).get("target", LOSSES[0]))
    if loss not in LOSSES:  # a frozen first stage has no use for it, but a wrong name is a wrong name
        raise UserError(f"first_stage_config: lossconfig: unknown target {loss!r}")
    if target.endswith(AUTOENCODERS):
        return autoencoder(target, params)
    if target.endswith("autoencoder.IdentityFirstStage"):
        return {"target": "ldm.first_stage.IdentityFirstStage", "params": {"channels": channels}}
    raise UserError(f"first_stage_config: unknown target {target!r}; there are {', '.join(AUTOENCODERS)} and IdentityFirstStage")


def autoencoder(target: str, params: Mapping[str, Any]) -> Node:
    """One of `AUTOENCODERS` -> `KLAutoencoder` or `VQAutoencoder`."""
    p, kl = Settings(target, params), target.endswith("AutoencoderKL")
    channels, config = p.require("embed_dim"), p.require("ddconfig")
    p.ignore("lossconfig", "ckpt_path", "ignore_keys", "image_key", "monitor")
    p.ignore("use_vf", "reverse_proj")  # of VA-VAE's training
    p.expect("colorize_nlabels", None)
    if kl:
        if not config.get("double_z", True):
            raise UserError(f"{target}: ddconfig: double_z must be true")
        p.ignore("ema_decay", "learn_logvar")
        made = {"target": "ldm.first_stage.KLAutoencoder", "params": _read_ddconfig(target, config, channels)}
    else:
        p.ignore("lr_g_factor", "scheduler_config", "batch_resize_range", "sane_index_shape", "use_ema")  # none changes what it computes
        p.expect("remap", None)
        size = p.require("n_embed")
        made = {"target": "ldm.first_stage.VQAutoencoder", "params": {"codebook_size": size, **_read_ddconfig(target, config, channels)}}
    p.done()
    return made


def first_stage_in(content: Mapping[str, Any], source: str) -> tuple[Node, dict[str, Any]]:
    """The first stage that a YAML of theirs describes, alone or in a model, and the scale of latents that the model states.

    Nothing else of the YAML is read.

    Raises:
        UserError: names the file and what is wrong with it.
    """
    try:
        target, params = split(content.get("model"), "model")
        if target.endswith(AUTOENCODERS):
            return autoencoder(target, params), {}
        stage = first_stage(params.get("first_stage_config"), int(params.get("channels", 3)))
        return stage, {} if params.get("scale_by_std") else {"scale": float(params.get("scale_factor", 1.0))}
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise UserError(f"{source}: a value in this CompVis config is not of the expected kind: {error}") from error


def _read_ddconfig(target: str, config: Mapping[str, Any], channels: int) -> Node:
    p = Settings(f"{target}: ddconfig", config)
    kind = p.take("attn_type", "vanilla")
    if kind not in ("vanilla", "none"):
        raise UserError(f"{p.where}: attn_type={kind!r} is not supported: no released config uses it")
    for key, allowed in (("resamp_with_conv", True), ("use_linear_attn", False), ("give_pre_end", False), ("tanh_out", False)):
        p.expect(key, allowed)
    resolution, attended, out_channels = p.require("resolution"), p.take("attn_resolutions", []), p.require("out_ch")
    made = read_keys(_DDCONFIG, p)
    if made["image_channels"] != out_channels:
        raise UserError(f"{p.where}: in_channels {made['image_channels']} and out_ch {out_channels} differ")
    return made | {  # their constructor ignores whatever else is in ddconfig
        "channels": channels,
        "features": made["features"] if made["features"] != channels else None,
        # theirs are pixel sizes counted from `resolution` by halving, ours are factors
        "attention_at": [] if kind == "none" else [2**i for i in range(len(made["width_mult"])) if resolution // 2**i in attended],
        "middle_attention": kind != "none",
        "dropout": float(p.take("dropout", 0.0) or 0.0),
    }


def factor_of(stage: Node) -> int:
    """Downsampling factor of a first stage's node."""
    return int(2 ** (len(stage["params"].get("width_mult", [1])) - 1))


def write_first_stage(node: Node, alone: bool = False) -> Node:
    """A first stage of ours -> their node; `alone` is not as a part of another model."""
    name = name_of(node)
    if name == IdentityFirstStage.__name__:
        return {"target": "ldm.models.autoencoder.IdentityFirstStage", "params": {"vq_interface": True}}
    kind = {"KLAutoencoder": KLAutoencoder, "VQAutoencoder": VQAutoencoder}.get(name)
    if kind is None:
        raise refuse(f"first stage {node['target']}")
    apart = ("channels", "attention_at", "middle_attention", "dropout", "initial_log_variance", "codebook_size")
    p = complete(node, kind, (*apart, "stem", "legacy", "norm_groups", *(key.ours for key in _DDCONFIG)))
    if p["stem"] != 1:
        raise refuse(f"a first stage with stem={p['stem']}")
    if not p.get("legacy", True):
        raise refuse("a codebook with legacy=false")
    if p["norm_groups"] != 32:
        raise refuse(f"a first stage whose norms have {p['norm_groups']} groups (theirs have 32)")
    if p["attention_at"] and not p["middle_attention"]:
        raise refuse("attention at some levels of the autoencoder but not in the middle")
    config = {
        **write_keys(_DDCONFIG, p | {"features": p["features"] or p["channels"]}),
        "double_z": kind is KLAutoencoder,
        "resolution": RESOLUTION,
        "out_ch": p["image_channels"],
        "attn_resolutions": [RESOLUTION // factor for factor in p["attention_at"]],
        "dropout": float(p["dropout"]),
        **({} if p["middle_attention"] else {"attn_type": "none"}),
    }
    made: Node = {"embed_dim": p["channels"], "ddconfig": config, "lossconfig": {"target": "torch.nn.Identity"}}
    if kind is KLAutoencoder:
        return {"target": "ldm.models.autoencoder.AutoencoderKL", "params": made}
    theirs = "VQModel" if alone else "VQModelInterface"
    return {"target": f"ldm.models.autoencoder.{theirs}", "params": {"n_embed": p["codebook_size"], **made}}
