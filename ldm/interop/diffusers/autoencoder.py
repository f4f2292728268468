"""The settings of autoencoders: `KLAutoencoder` <-> `AutoencoderKL`, `VQAutoencoder` <-> `VQModel`; others keep their class."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.first_stage import DiffusersAutoencoder, KLAutoencoder, VQAutoencoder
from ldm.first_stage.diffusers import KINDS
from ldm.interop.diffusers.settings import OWN, Settings, changed, parameters
from ldm.interop.diffusers.unet import GROUPS, check_widths
from ldm.interop.settings import Node

WRAPPER = "ldm.first_stage.DiffusersAutoencoder"
TARGETS = {"ldm.first_stage.KLAutoencoder": KLAutoencoder, "ldm.first_stage.VQAutoencoder": VQAutoencoder, WRAPPER: DiffusersAutoencoder}
KL, VQ = "AutoencoderKL", "VQModel"
AUTOENCODERS = (KL, VQ, *KINDS)
OURS_ONLY = {KL: ("dropout", "initial_log_variance"), VQ: ("dropout", "legacy")}  # of training; inference does not see them
DOWN = {False: "DownEncoderBlock2D", True: "AttnDownEncoderBlock2D"}
UP = {False: "UpDecoderBlock2D", True: "AttnUpDecoderBlock2D"}
NOT_THERE = {"norm_type": "group", "lookup_from_codebook": False}  # of VQModel: other values change what it computes
QUANT_CONVS = {
    "use_quant_conv": ("quant_conv", 2),
    "use_post_quant_conv": ("post_quant_conv", 1),
}  # their entries, and channels per latent channel
SCALE = 0.18215  # diffusers' default where a file has no scaling_factor


def write_autoencoder(node: Node, latents: Mapping[str, Any] | None, sample_size: int | None) -> dict[str, Any]:
    """`config.json` of a first stage.

    Args:
        node: of the first stage.
        latents: their scale and mean, see `FirstStage.latents`; None if they are unknown.
        sample_size: side of the images.

    Raises:
        UserError: something that the diffusers class cannot express; says what and why.
    """
    p = parameters(node, "first_stage", TARGETS)
    if node["target"] == WRAPPER:
        return {
            **p["settings"],
            "_class_name": p["kind"],
            **write_latents(latents or {}, p["kind"], p["settings"].get("latent_channels", 0)),
        }
    kind = KL if node["target"].endswith("KLAutoencoder") else VQ
    check_widths("first_stage", p, p["norm_groups"])
    if p["stem"] != 1:
        raise UserError(f"first_stage: stem={p['stem']}: diffusers has no space-to-depth before the first convolution")
    channels, features = p["channels"], p["features"] or p["channels"]
    if kind == KL and features != channels:
        raise UserError(f"first_stage: features={features}: AutoencoderKL has as many as the latent has channels ({channels})")
    attends = [2**i in p["attention_at"] for i in range(len(p["width_mult"]))]
    made: dict[str, Any] = {
        "_class_name": kind,
        "in_channels": p["image_channels"],
        "out_channels": p["image_channels"],
        "block_out_channels": [p["width"] * mult for mult in p["width_mult"]],
        "layers_per_block": p["blocks_per_level"],
        "down_block_types": [DOWN[a] for a in attends],
        "up_block_types": [UP[a] for a in reversed(attends)],
        "latent_channels": features,
        "act_fn": "silu",
        "norm_num_groups": p["norm_groups"],
        "mid_block_add_attention": p["middle_attention"],
        **write_latents(latents or {}, kind, channels),
    }
    if sample_size is not None:
        made["sample_size"] = sample_size
    if kind == VQ:
        made |= {"num_vq_embeddings": p["codebook_size"], "vq_embed_dim": channels, "norm_type": "group"}
    if own := changed(p, TARGETS[node["target"]], OURS_ONLY[kind]):
        made[OWN] = own
    return made


def write_latents(latents: Mapping[str, Any], kind: str, channels: int) -> dict[str, Any]:
    """Scale and mean of latents in diffusers' terms: `(z - shift_factor) * scaling_factor`, or the same with mean and deviation by channel.

    Raises:
        UserError: a class that only has a factor.
    """
    scale, mean = latents.get("scale", 1.0), latents.get("mean")
    if not isinstance(scale, list) and mean is None:
        return {"scaling_factor": scale}
    if kind != KL:
        raise UserError(f"first_stage: a scale or a mean for each channel of the latents: {kind} has one factor for all")
    if mean is not None and not isinstance(scale, list) and len({*mean}) == 1:
        return {"scaling_factor": scale, "shift_factor": mean[0]}
    scales = scale if isinstance(scale, list) else [scale] * channels
    return {"scaling_factor": 1.0, "latents_mean": mean or [0.0] * channels, "latents_std": [1.0 / value for value in scales]}


def read_latents(settings: Settings, kind: str, channels: int) -> tuple[dict[str, Any], list[str]]:
    """Scale and mean of latents, see `FirstStage.latents`, and notes; empty if the file states none."""
    scale, shift = settings.take("scaling_factor", None), settings.take("shift_factor", None)
    mean, std = settings.take("latents_mean", None), settings.take("latents_std", None)
    for key, values in (("latents_mean", mean), ("latents_std", std)):
        if values is not None and len(values) != channels:
            raise settings.wrong(key, values, f"a number for each of the {channels} channels")
    notes = []
    if scale is None and kind in (KL, VQ):
        notes, scale = [f"{settings.where}: no scaling_factor; diffusers' default {SCALE} was taken"], SCALE
    if scale is None and std is None and mean is None and not shift:
        return {}, []
    factor = 1.0 if scale is None else float(scale)
    found: dict[str, Any] = {"scale": factor if std is None else [factor / float(value) for value in std]}
    if mean is not None or shift:
        found["mean"] = [float(value) for value in mean] if mean is not None else [float(shift)] * channels
    return found, notes


def read_autoencoder(settings: Settings, kind: str) -> tuple[Node, dict[str, Any], list[str]]:
    """Node, scale and mean of the latents (`FirstStage.latents`), and notes.

    Args:
        settings: of `config.json`.
        kind: the class it names, one of `AUTOENCODERS`.

    Raises:
        UserError: a setting that our autoencoder cannot express.
    """
    if kind in KINDS:
        latents, notes = read_latents(settings, kind, settings.left.get("latent_channels", 0))
        return {"target": WRAPPER, "params": {"kind": kind, "settings": settings.left}}, latents, notes
    settings.ignore("sample_size", "force_upcast")  # neither changes the network
    settings.expect("act_fn", "silu", "swish")
    if kind == VQ:
        for key, allowed in NOT_THERE.items():
            settings.expect(key, allowed)
    settings.ignore(*QUANT_CONVS)  # identities are stored where they are missing
    widths = settings.take("block_out_channels", [64])
    if any(width % widths[0] for width in widths):
        raise settings.wrong("block_out_channels", widths, "multiples of the first")
    groups = settings.take("norm_num_groups", GROUPS)
    if any(width % groups for width in widths):
        raise settings.wrong("norm_num_groups", groups, f"a divisor of block_out_channels={widths}")
    image_channels = settings.take("in_channels", 3)
    settings.follows("out_channels", 3, image_channels)
    features = settings.take("latent_channels", 4 if kind == KL else 3)
    made: dict[str, Any] = {
        "width": widths[0],
        "width_mult": [width // widths[0] for width in widths],
        "blocks_per_level": settings.take("layers_per_block", 1),
        "attention_at": [2**i for i, attended in enumerate(_attends(settings, len(widths))) if attended],
        "middle_attention": settings.take("mid_block_add_attention", True),
        "image_channels": image_channels,
        **({} if groups == GROUPS else {"norm_groups": groups}),
    }
    if kind == KL:
        made = {"channels": features, **made}
    else:
        channels = settings.take("vq_embed_dim", None) or features
        made = {"channels": channels, "codebook_size": settings.take("num_vq_embeddings", 256), **made}
        if features != channels:
            made["features"] = features
    latents, notes = read_latents(settings, kind, made["channels"])
    settings.done()
    target = next(name for name in TARGETS if name.endswith("KLAutoencoder" if kind == KL else "VQAutoencoder"))
    return {"target": target, "params": {**made, **settings.our_own(OURS_ONLY[kind])}}, latents, notes


def with_quant_convs(state: dict[str, Tensor], settings: Mapping[str, Any], node: Node) -> dict[str, Tensor]:
    """The weights of an AutoencoderKL with identities for the 1x1 convolutions of the latent that it was built without."""
    for key, (name, times) in QUANT_CONVS.items():
        if settings.get(key) is False:
            channels = times * node["params"]["channels"]
            state |= {f"{name}.weight": torch.eye(channels)[..., None, None], f"{name}.bias": torch.zeros(channels)}
    return state


def _attends(settings: Settings, levels: int) -> list[bool]:
    """Which levels attend, the finest first."""
    found = []
    for key, names in (("down_block_types", DOWN), ("up_block_types", UP)):
        blocks = settings.take(key, [names[False]])
        if len(blocks) != levels or any(block not in names.values() for block in blocks):
            raise settings.wrong(key, blocks, f"{levels} of {' or '.join(names.values())}")
        found.append([block == names[True] for block in blocks])
    if found[0] != found[1][::-1]:
        raise settings.wrong("up_block_types", blocks, "the mirror of down_block_types")
    return found[0]
