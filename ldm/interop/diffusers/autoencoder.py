"""`KLAutoencoder` <-> `AutoencoderKL`, `VQAutoencoder` <-> `VQModel`: the settings."""

from typing import Any

from ldm.errors import UserError
from ldm.first_stage import KLAutoencoder, VQAutoencoder
from ldm.interop.diffusers.settings import OWN, Settings, changed, parameters
from ldm.interop.diffusers.unet import GROUPS, check_widths
from ldm.interop.settings import Node

TARGETS = {"ldm.first_stage.KLAutoencoder": KLAutoencoder, "ldm.first_stage.VQAutoencoder": VQAutoencoder}
KL, VQ = "AutoencoderKL", "VQModel"
OURS_ONLY = {KL: ("dropout", "initial_log_variance"), VQ: ("dropout", "legacy")}  # of training; inference does not see them
DOWN = {False: "DownEncoderBlock2D", True: "AttnDownEncoderBlock2D"}
UP = {False: "UpDecoderBlock2D", True: "AttnUpDecoderBlock2D"}
NOT_THERE: dict[str, dict[str, tuple[Any, ...]]] = {  # key -> the values that change nothing; the first is diffusers' default
    KL: {
        "shift_factor": (None,),
        "latents_mean": (None,),
        "latents_std": (None,),
        "use_quant_conv": (True,),
        "use_post_quant_conv": (True,),
    },
    VQ: {"norm_type": ("group",), "lookup_from_codebook": (False,)},
}
SCALE = 0.18215  # diffusers' default where a file has no scaling_factor


def write_autoencoder(node: Node, scale: float | None, sample_size: int | None) -> dict[str, Any]:
    """`config.json` of a first stage.

    Args:
        node: of the first stage.
        scale: scale of latents; None for a first stage alone.
        sample_size: side of the images.

    Raises:
        UserError: something that the diffusers class cannot express; says what and why.
    """
    p = parameters(node, "first_stage", TARGETS)
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
        "scaling_factor": 1.0 if scale is None else scale,
    }
    if sample_size is not None:
        made["sample_size"] = sample_size
    if kind == VQ:
        made |= {"num_vq_embeddings": p["codebook_size"], "vq_embed_dim": channels, "norm_type": "group"}
    if own := changed(p, TARGETS[node["target"]], OURS_ONLY[kind]):
        made[OWN] = own
    return made


def read_autoencoder(settings: Settings, kind: str) -> tuple[Node, float, list[str]]:
    """Node, scale of the latents, and notes.

    Args:
        settings: of `config.json`.
        kind: the class it names, `AutoencoderKL` or `VQModel`.

    Raises:
        UserError: a setting that our autoencoder cannot express.
    """
    settings.ignore("sample_size", "force_upcast")  # neither changes the network
    for key, allowed in {**NOT_THERE[kind], "act_fn": ("silu", "swish")}.items():
        settings.expect(key, *allowed)
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
    scale = settings.take("scaling_factor", None)
    notes = [] if scale is not None else [f"{settings.where}: no scaling_factor; diffusers' default {SCALE} was taken"]
    settings.done()
    target = next(name for name in TARGETS if name.endswith("KLAutoencoder" if kind == KL else "VQAutoencoder"))
    return {"target": target, "params": {**made, **settings.our_own(OURS_ONLY[kind])}}, SCALE if scale is None else float(scale), notes


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
