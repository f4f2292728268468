"""Our nodes -> a CompVis YAML. What their code cannot express is refused with the reason."""

from typing import Any

from ldm.errors import UserError
from ldm.interop.compvis.config import Node

RESOLUTION = 256  # their attn_resolutions are pixel sizes counted from it; any number would do


def refuse(what: str) -> UserError:
    """The error for something that CompVis configs have no words for."""
    return UserError(f"cannot be written as a CompVis checkpoint: {what}")


def name_of(node: Node) -> str:
    """The class a node names, without its package."""
    return str(node["target"]).rpartition(".")[2]


def _rest(node: Node, done: set[str]) -> None:
    """See that no argument is left that would be lost."""
    for key, value in (node.get("params") or {}).items():
        if key not in done and value not in (None, False, 0.0):
            raise refuse(f"{name_of(node)} with {key}={value!r}")


def first_stage(node: Node, alone: bool = False) -> Node:
    """`KLAutoencoder`, `VQAutoencoder` or `IdentityFirstStage` -> their node; `alone` is not as a part of another model."""
    p = dict(node["params"])
    if name_of(node) == "IdentityFirstStage":
        return {"target": "ldm.models.autoencoder.IdentityFirstStage", "params": {"vq_interface": True}}
    if name_of(node) not in ("KLAutoencoder", "VQAutoencoder"):
        raise refuse(f"first stage {node['target']}")
    kl = name_of(node) == "KLAutoencoder"
    shared = {"channels", "features", "width", "width_mult", "blocks_per_level", "attention_at", "middle_attention"}
    shared |= {"image_channels", "dropout", "initial_log_variance", "codebook_size", "legacy", "norm_groups"}
    if p.get("stem", 1) != 1:
        raise refuse(f"a first stage with stem={p['stem']}")
    if not p.get("legacy", True):
        raise refuse("a codebook with legacy=false")
    if p.get("norm_groups", 32) != 32:
        raise refuse(f"a first stage whose norms have {p['norm_groups']} groups (theirs have 32)")
    _rest(node, shared | {"stem"})
    attended, middle = list(p.get("attention_at", [])), p.get("middle_attention", True)
    if attended and not middle:
        raise refuse("attention at some levels of the autoencoder but not in the middle")
    config = {
        "double_z": kl,
        "z_channels": p.get("features") or p["channels"],
        "resolution": RESOLUTION,
        "in_channels": p.get("image_channels", 3),
        "out_ch": p.get("image_channels", 3),
        "ch": p["width"],
        "ch_mult": list(p["width_mult"]),
        "num_res_blocks": p.get("blocks_per_level", 2),
        "attn_resolutions": [RESOLUTION // factor for factor in attended],
        "dropout": float(p.get("dropout", 0.0)),
        **({} if middle else {"attn_type": "none"}),
    }
    made: Node = {"embed_dim": p["channels"], "ddconfig": config, "lossconfig": {"target": "torch.nn.Identity"}}
    if kl:
        return {"target": "ldm.models.autoencoder.AutoencoderKL", "params": made}
    kind = "VQModel" if alone else "VQModelInterface"
    return {"target": f"ldm.models.autoencoder.{kind}", "params": {"n_embed": p["codebook_size"], **made}}


def network(node: Node, size: int) -> Node:
    """`UNet` -> `UNetModel`; `size` is the latent's, which their code wants to be told."""
    p = dict(node["params"])
    known = {"in_channels", "out_channels", "width", "width_mult", "blocks_per_level", "attention_at", "heads", "head_channels"}
    known |= {"heads_up", "heads_first", "context_channels", "transformer_depth", "vector_channels", "dropout", "scale_shift"}
    _rest(node, known | {"resample", "checkpointing"})
    made: Node = {
        "image_size": size,
        "in_channels": p["in_channels"],
        "out_channels": p["out_channels"],
        "model_channels": p["width"],
        "channel_mult": list(p["width_mult"]),
        "num_res_blocks": p.get("blocks_per_level", 2),
        "attention_resolutions": list(p.get("attention_at", [])),
    }
    made |= {"num_heads": p["heads"]} if p.get("heads") else {"num_head_channels": p["head_channels"]}
    made |= {"num_heads_upsample": p["heads_up"]} if p.get("heads_up") else {}
    if p.get("context_channels"):
        made |= {"use_spatial_transformer": True, "context_dim": p["context_channels"], "transformer_depth": p.get("transformer_depth", 1)}
    resample = p.get("resample", "conv")
    optional = {
        "use_new_attention_order": not p.get("heads_first", True),
        "num_classes": p.get("vector_channels"),
        "dropout": float(p.get("dropout", 0.0)),
        "use_scale_shift_norm": p.get("scale_shift", False),
        "resblock_updown": resample == "residual",
        "use_checkpoint": p.get("checkpointing", False),
    }
    made |= {key: value for key, value in optional.items() if value}
    made |= {"conv_resample": False} if resample == "pool" else {}
    return {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": made}


def process(node: Node) -> Node:
    """Our process -> their `beta_schedule` and numbers."""
    p = dict(node.get("params") or {})
    if p.get("zero_terminal_snr"):
        raise refuse("a process with zero terminal SNR")
    kinds = {"scaled_linear": ("linear", 0.0015, 0.0195), "linear": ("sqrt_linear", 1e-4, 2e-2), "sqrt": ("sqrt", 1e-4, 2e-2)}
    name = name_of(node)
    if name == "from_betas":
        return {"timesteps": len(p["betas"]), "given_betas": list(p["betas"])}
    made: Node = {"timesteps": p.get("T", 1000)}
    if name == "cosine":
        return made | {"beta_schedule": "cosine", "cosine_s": p.get("s", 8e-3)}
    if name not in kinds:
        raise refuse(f"process {node['target']}")
    kind, start, end = kinds[name]
    return made | {"beta_schedule": kind, "linear_start": p.get("start", start), "linear_end": p.get("end", end)}


def conditioner(node: Node | None) -> Node:
    """Our conditioner -> the entries of `LatentDiffusion` that say how it is conditioned."""
    if node is None or name_of(node) == "Unconditional":
        return {"cond_stage_config": "__is_unconditional__", "cond_stage_key": "image"}
    make = {
        "ClassEmbedding": _class,
        "TextTransformer": _tokens,
        "LayoutTransformer": _tokens,
        "LabelMap": _label_map,
        "ConcatImage": _image,
        "Joint": _joint,
        "PretrainedText": _clip,
        "GivenContext": lambda node: _given("crossattn", "embedding"),
        "LabelVector": lambda node: _given("adm", "class_label"),
    }.get(name_of(node))
    if make is None:
        raise refuse(f"conditioner {node['target']}")
    return make(node)


def _given(key: str, batch_key: str) -> Node:
    return {"cond_stage_config": {"target": "torch.nn.Identity"}, "cond_stage_key": batch_key, "conditioning_key": key}


def _learned(target: str, params: Node, batch_key: str, key: str) -> Node:
    config = {"target": f"ldm.modules.encoders.modules.{target}", "params": params}
    return {"cond_stage_config": config, "cond_stage_key": batch_key, "conditioning_key": key, "cond_stage_trainable": True}


def _class(node: Node) -> Node:
    p = node["params"]
    classes = p["num_classes"] + int(p.get("null_class", True))
    return _learned("ClassEmbedder", {"n_classes": classes, "embed_dim": p["width"], "key": "class_label"}, "class_label", "crossattn")


def _tokens(node: Node) -> Node:
    p = node["params"]
    if (p.get("heads", 8), p.get("head_channels", 64)) != (8, 64):
        raise refuse(f"{name_of(node)} with other than 8 heads of 64 channels")
    if not p.get("logit_head", False):
        raise refuse(f"{name_of(node)} without the logit head that their checkpoints hold (logit_head: true)")
    tokenizer = p["tokenizer"]
    q = tokenizer.get("params") or {}
    made = {"n_embed": p["width"], "n_layer": p["depth"]}
    if name_of(tokenizer) == "BertTokenizer":
        made |= {"vocab_size": q.get("vocabulary_size", 30522), "max_seq_len": p["length"]}
        return _learned("BERTEmbedder", made, "caption", "crossattn")
    if name_of(tokenizer) == "BoxTokenizer":
        length = 3 * q.get("max_objects", 30) + 2 * int(q.get("crop", True))
        made |= {"vocab_size": q.get("vocabulary", 8192), "max_seq_len": length, "use_tokenizer": False}
        return _learned("BERTEmbedder", made, "coordinates_bbox", "crossattn")
    raise refuse(f"captions through {tokenizer['target']}")


def _clip(node: Node) -> Node:
    p = node["params"]
    if not p.get("stored"):
        raise refuse("a text encoder in another file (theirs is in the checkpoint: stored: true)")
    if p.get("layers") is not None or p.get("pad") is not None:
        raise refuse("a text encoder with layers or pad")
    made = _learned("FrozenCLIPEmbedder", {"version": p["source"], "max_length": p.get("length", 77)}, "caption", "crossattn")
    return {**made, "cond_stage_trainable": False}


def _label_map(node: Node) -> Node:
    p = node["params"]["rescaler"]["params"]
    made = {"n_stages": p.get("stages", 1), "in_channels": p["in_channels"], "out_channels": p.get("out_channels")}
    made |= {"multiplier": p.get("factor", 0.5), "method": p.get("method", "bilinear"), "bias": p.get("bias", False)}
    return _learned("SpatialRescaler", {key: value for key, value in made.items() if value is not None}, "segmentation", "concat")


def _image(node: Node) -> Node:
    p = node["params"]
    if p.get("fill"):
        raise refuse(f"a {p['key']} whose masked region is filled (theirs stays black)")
    if p.get("encode"):
        if p.get("scaled", True):
            raise refuse("a condition through the first stage whose latent is scaled (scaled: false is theirs)")
        return {"cond_stage_config": "__is_first_stage__", "cond_stage_key": p["key"], "concat_mode": True}
    if any(p.get(name, 1) != 1 for name in ("factor", "enlarge", "fold")) or p.get("signed"):
        raise refuse(f"a resized, folded or signed {p['key']} alone")
    return _given("concat", {"low_res": "LR_image"}.get(p["key"], p["key"]))


def _joint(node: Node) -> Node:
    parts: list[Any] = node["params"]["parts"]
    names = [name_of(part) for part in parts]
    if names == ["ConcatImage", "ConcatImage"] and parts[0]["params"].get("encode") and parts[1]["params"]["key"] == "mask":
        if parts[1]["params"].get("fold", 1) != 1:
            raise refuse("a folded mask")
        return _image(parts[0])
    if names == ["ConcatImage", "GivenContext"]:
        return _given("hybrid", "embedding")
    raise refuse(f"a Joint of {' and '.join(names)}")


def latent_diffusion(node: Node, objective: Node | None, ema: bool, size: int) -> Node:
    """A whole `model:` tree.

    Args:
        node: of `LatentDiffusion`, with the plain node of its first stage.
        objective: arguments of `DiffusionObjective`; None means its defaults.
        ema: whether the checkpoint holds averages.
        size: of the latent in training.
    """
    p = node["params"]
    times = process(p["process"])
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
        **conditioner(p.get("conditioner")),
        **_objective(objective),
        "unet_config": network(p["network"], size),
        "first_stage_config": first_stage(p["first_stage"]),
    }
    return {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": made}


def _objective(node: Node | None) -> Node:
    p = dict((node or {}).get("params") or {})
    made: Node = {"loss_type": p.get("loss", "l2")}
    made |= {"l_simple_weight": p["simple_weight"]} if p.get("simple_weight", 1.0) != 1.0 else {}
    made |= {"original_elbo_weight": p["vlb_weight"]} if p.get("vlb_weight") else {}
    return made | ({"learn_logvar": True, "logvar_init": p.get("initial_log_variance", 0.0)} if p.get("log_variances") else {})
