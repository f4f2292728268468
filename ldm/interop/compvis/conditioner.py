"""Their `cond_stage_config` <-> our conditioners."""

from typing import Any

from ldm.conditioning import Rescaler
from ldm.errors import UserError
from ldm.interop.compvis import text
from ldm.interop.compvis.nodes import complete, name_of, refuse, split
from ldm.interop.keys import Key, read_keys, write_keys
from ldm.interop.settings import Node, Settings

KEYS = {  # their batch keys -> ours
    "LR_image": "low_res",
    "masked_image": "masked_image",
    "image": "image",
    "jpg": "image",
}
GUIDED_CLASSES = 1001  # ImageNet and, as index 1000, "no class"
_RESCALER = (
    Key("in_channels", "in_channels", 3),
    Key("out_channels", "out_channels", None),
    Key("stages", "n_stages", 1),
    Key("factor", "multiplier", 0.5, float),
    Key("method", "method", "bilinear"),
    Key("bias", "bias", False),
)


def conditioner(cond: Any, key: str, batch_key: str, net: Node, factor: int) -> Node | None:
    """`cond_stage_config` -> a conditioner of ours; None without a condition.

    Args:
        cond: their node, or one of their two words.
        key: `conditioning_key`, the way into the network.
        batch_key: `cond_stage_key`.
        net: parameters of our network.
        factor: of the first stage.

    Raises:
        UserError: an unknown target or parameter, or a way in that is not supported.
    """
    extra = net["in_channels"] - net["out_channels"]
    if cond == "__is_unconditional__":
        return None
    if key not in ("concat", "crossattn", "adm", "hybrid"):
        raise UserError(f"conditioning_key {key!r} is unknown; there are concat, crossattn, adm and hybrid")
    if cond == "__is_first_stage__":
        return _through_first_stage(key, batch_key, extra, net["out_channels"], factor)
    target, params = split(cond, "cond_stage_config")
    if target == "torch.nn.Identity":
        return _identity(key, batch_key, extra, net)
    for ending, made, keys in _CONDITIONERS:
        if target.endswith(ending):
            if key not in keys:
                raise UserError(f"cond_stage_config: {target} with conditioning_key {key!r} is not supported")
            return made(Settings(target, params))
    raise UserError(
        f"cond_stage_config: unknown target {target!r}; there are __is_unconditional__, __is_first_stage__, torch.nn.Identity and of "
        f"ldm.modules.encoders.modules {', '.join(ending.rpartition('.')[2] for ending, _, _ in _CONDITIONERS)}"
    )


def _image(key: str, channels: int, **more: Any) -> Node:
    return {"target": "ldm.conditioning.ConcatImage", "params": {"key": key, "channels": channels, **more}}


def _through_first_stage(key: str, batch_key: str, extra: int, z: int, factor: int) -> Node:
    """The conditioner is the first stage itself; its latents are not scaled. A further channel is the mask (inpainting)."""
    if key != "concat":
        raise UserError(f"cond_stage_config __is_first_stage__ with conditioning_key {key!r} is not supported")
    image = _image(KEYS.get(batch_key, "masked_image"), z, encode=True, scaled=False)
    if extra == z:
        return image
    if extra != z + 1:
        raise UserError(f"cond_stage_config __is_first_stage__: unet_config has {extra} channels beside z, expected {z} or {z + 1}")
    mask = _image("mask", 1, factor=factor, signed=True)
    return {"target": "ldm.conditioning.Joint", "params": {"parts": [image, mask]}}


def _identity(key: str, batch_key: str, extra: int, net: Node) -> Node:
    """The condition goes to the network as the batch gives it."""
    image = _image(KEYS.get(batch_key, "low_res"), extra)
    tokens = {"target": "ldm.conditioning.GivenContext", "params": {"width": net["context_channels"]}}
    if key == "concat":
        return image
    if key == "crossattn":
        return tokens
    if key == "hybrid":
        return {"target": "ldm.conditioning.Joint", "params": {"parts": [image, tokens]}}
    return {"target": "ldm.conditioning.LabelVector", "params": {"num_classes": net["vector_channels"]}}


def _class(p: Settings) -> Node:
    classes, width = p.take("n_classes", 1000), p.require("embed_dim")
    p.ignore("key")
    p.done()
    null = classes == GUIDED_CLASSES
    made = {"num_classes": classes - int(null), "width": width, "null_class": null}
    return {"target": "ldm.conditioning.ClassEmbedding", "params": made}


def _tokens(p: Settings) -> Node:
    width, depth, vocabulary = p.require("n_embed"), p.require("n_layer"), p.take("vocab_size", 30522)
    length, text = p.take("max_seq_len", 77), p.take("use_tokenizer", True)
    p.ignore("device")
    p.expect("embedding_dropout", 0.0)
    p.done()
    made: Node = {"width": width, "depth": depth, "logit_head": True}
    if text:
        tokenizer = {"target": "ldm.conditioning.BertTokenizer", "params": {"vocabulary_size": vocabulary}}
        return {"target": "ldm.conditioning.TextTransformer", "params": {"tokenizer": tokenizer, "length": length, **made}}
    if length % 3 == 1:
        raise UserError(f"{p.where}: max_seq_len {length} is neither three tokens per object nor two more for the crop")
    boxes = {"max_objects": length // 3, "vocabulary": vocabulary, "crop": length % 3 == 2}
    tokenizer = {"target": "ldm.conditioning.BoxTokenizer", "params": boxes}
    return {"target": "ldm.conditioning.LayoutTransformer", "params": {"tokenizer": tokenizer, **made}}


def _tokens_without_tokenizer(p: Settings) -> Node:
    p.left.setdefault("use_tokenizer", False)
    return _tokens(p)


def rescaler(p: Settings) -> Node:
    """`SpatialRescaler` -> `Rescaler`."""
    made = read_keys(_RESCALER, p)
    p.done()
    return {"target": "ldm.conditioning.Rescaler", "params": made}


def _label_map(p: Settings) -> Node:
    inner = rescaler(p)
    return {"target": "ldm.conditioning.LabelMap", "params": {"num_classes": inner["params"]["in_channels"], "rescaler": inner}}


_CONDITIONERS = (
    ("encoders.modules.ClassEmbedder", _class, ("crossattn",)),
    ("encoders.modules.BERTEmbedder", _tokens, ("crossattn",)),
    ("encoders.modules.TransformerEmbedder", _tokens_without_tokenizer, ("crossattn",)),
    ("encoders.modules.SpatialRescaler", _label_map, ("concat",)),
    ("encoders.modules.FrozenCLIPEmbedder", text.clip, ("crossattn",)),
    ("encoders.modules.FrozenOpenCLIPEmbedder", text.open_clip, ("crossattn",)),
)


def write_conditioner(node: Node | None) -> Node:
    """Our conditioner -> the entries of `LatentDiffusion` that say how it is conditioned."""
    if node is None or name_of(node) == "Unconditional":
        return {"cond_stage_config": "__is_unconditional__", "cond_stage_key": "image"}
    make = {
        "ClassEmbedding": _write_class,
        "TextTransformer": _write_tokens,
        "LayoutTransformer": _write_tokens,
        "LabelMap": _write_label_map,
        "ConcatImage": _write_image,
        "Joint": _write_joint,
        "PretrainedText": _write_clip,
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


def _write_class(node: Node) -> Node:
    p = node["params"]
    classes = p["num_classes"] + int(p.get("null_class", True))
    return _learned("ClassEmbedder", {"n_classes": classes, "embed_dim": p["width"], "key": "class_label"}, "class_label", "crossattn")


def _write_tokens(node: Node) -> Node:
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


def _write_clip(node: Node) -> Node:
    p = node["params"]
    if not p.get("stored"):
        raise refuse("a text encoder in another file (theirs is in the checkpoint: stored: true)")
    if p.get("layers") is not None or p.get("pad") is not None:
        raise refuse("a text encoder with layers or pad")
    made = _learned("FrozenCLIPEmbedder", {"version": p["source"], "max_length": p.get("length", 77)}, "caption", "crossattn")
    return {**made, "cond_stage_trainable": False}


def _write_label_map(node: Node) -> Node:
    p = complete(node["params"]["rescaler"], Rescaler, [key.ours for key in _RESCALER])
    return _learned("SpatialRescaler", write_keys(_RESCALER, p), "segmentation", "concat")


def _write_image(node: Node) -> Node:
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


def _write_joint(node: Node) -> Node:
    parts: list[Any] = node["params"]["parts"]
    names = [name_of(part) for part in parts]
    if names == ["ConcatImage", "ConcatImage"] and parts[0]["params"].get("encode") and parts[1]["params"]["key"] == "mask":
        if parts[1]["params"].get("fold", 1) != 1:
            raise refuse("a folded mask")
        return _write_image(parts[0])
    if names == ["ConcatImage", "GivenContext"]:
        return _given("hybrid", "embedding")
    raise refuse(f"a Joint of {' and '.join(names)}")
