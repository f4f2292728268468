"""A CompVis `LatentDiffusion` tree <-> the node of ours, its objective, and how it was trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ldm.errors import UserError
from ldm.interop.compvis.autoencoder import factor_of, first_stage, write_first_stage
from ldm.interop.compvis.conditioner import conditioner, write_conditioner
from ldm.interop.compvis.nodes import refuse, split
from ldm.interop.compvis.process import objective, process, write_objective, write_process
from ldm.interop.compvis.unet import network, write_network
from ldm.interop.settings import Node, Settings

DIFFUSION = ("ddpm.LatentDiffusion", "ddpm.DDPM", "ddpm.Layout2ImgDiffusion")


@dataclass(frozen=True)
class Translated:
    """What a tree says.

    Attributes:
        model: node of `LatentDiffusion`.
        objective: node of `DiffusionObjective`.
        ema: whether the network's weights are averaged.
        train_conditioner: whether the conditioner learns.
        scheduler: their scheduler node, or none.
    """

    model: Node
    objective: Node
    ema: bool
    train_conditioner: bool
    scheduler: Node | None


def latent_diffusion(target: str, params: Mapping[str, Any]) -> Translated:
    """The parameters of `LatentDiffusion` (or `DDPM`, which works on pixels).

    Raises:
        UserError: an unknown target or parameter, or one whose meaning this project does not have.
    """
    if not target.endswith(DIFFUSION):
        raise UserError(f"unknown target {target!r}: expected one of {', '.join(DIFFUSION)}")
    p = Settings(target, params)
    unet_target, unet_params = split(p.require("unet_config"), "unet_config")
    if not unet_target.endswith("openaimodel.UNetModel"):
        raise UserError(f"unet_config: unknown target {unet_target!r}")
    net = network(unet_target, unet_params)["params"]
    pixels = target.endswith("ddpm.DDPM")
    channels = p.take("channels", net["out_channels"])
    stage_node = {"target": "autoencoder.IdentityFirstStage"} if pixels else p.require("first_stage_config")
    stage = first_stage(stage_node, channels)
    made: Node = {"first_stage": stage, "network": {"target": "ldm.networks.UNet", "params": net}, "process": process(p)}
    cond = "__is_unconditional__" if pixels else p.require("cond_stage_config")
    key = p.take("conditioning_key")
    concat_mode, batch_key = p.take("concat_mode", True), p.take("cond_stage_key", "image")
    condition = conditioner(cond, key or ("concat" if concat_mode else "crossattn"), batch_key, net, factor_of(stage))
    if condition is not None:
        made["conditioner"] = condition
    made["parameterization"] = p.take("parameterization", "eps")
    scale = float(p.take("scale_factor", 1.0))
    made["scale"] = "std" if p.take("scale_by_std", False) else scale
    loss = objective(p, made["process"])
    ema, trainable, scheduler = p.take("use_ema", True), p.take("cond_stage_trainable", False), p.take("scheduler_config")
    _pass_over(p)
    return Translated({"target": "ldm.model.LatentDiffusion", "params": made}, loss, ema, trainable, scheduler)


def _pass_over(p: Settings) -> None:
    """Parameters that change neither the model nor its training here, and those that must have their usual value."""
    p.ignore("image_size", "first_stage_key", "log_every_t", "monitor", "clip_denoised", "cond_stage_forward")
    p.ignore("ckpt_path", "ignore_keys", "load_only_unet")  # paths of weights, which are read elsewhere
    p.ignore("load_ema", "reset_ema", "reset_num_ema_updates", "keep_num_ema_updates", "make_it_fit")  # of loading their files
    p.expect("unet_trainable", True)
    p.expect("ucg_training", None, {})
    for key, usual in (("num_timesteps_cond", 1), ("v_posterior", 0.0), ("use_positional_encodings", False)):
        p.expect(key, usual, None)
    p.done()


def write_latent_diffusion(node: Node, objective: Node | None, ema: bool, size: int) -> Node:
    """A `model:` tree.

    Args:
        node: of `LatentDiffusion`, with the plain node of its first stage.
        objective: arguments of `DiffusionObjective`; None means its defaults.
        ema: whether the checkpoint holds averages.
        size: of the latent in training.
    """
    p = node["params"]
    times = write_process(p["process"])
    if p.get("parameterization", "eps") not in ("eps", "x0"):
        raise refuse(f"parameterization {p['parameterization']!r} (theirs are eps and x0)")
    scale = p.get("scale", 1.0)
    if isinstance(scale, list) or scale == "channels" or p.get("mean") is not None:
        raise refuse("a scale or a mean for each channel of the latents (theirs is one factor for all)")
    made: Node = {
        **times,
        "image_size": size,
        "channels": p["network"]["params"]["out_channels"],
        "parameterization": p.get("parameterization", "eps"),
        "use_ema": ema,
        **({"scale_by_std": True} if scale == "std" else {"scale_factor": float(scale)}),
        **write_conditioner(p.get("conditioner")),
        **write_objective(objective),
        "unet_config": write_network(p["network"], size),
        "first_stage_config": write_first_stage(p["first_stage"]),
    }
    return {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": made}
