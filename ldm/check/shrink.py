"""The same config with narrow networks: one step of it on a CPU takes a moment, and fails where the big one would."""

import copy
from collections.abc import Callable
from typing import Any

from ldm.config import Trust
from ldm.networks.base import NARROW as WIDTH


def shrink(node: Any, trust: Trust | None = None) -> Any:
    """A copy of a model's node with narrow networks, no perceptual loss, and at most two transformer layers."""
    node = copy.deepcopy(node)
    _walk(node, trust or Trust())
    return node


def _walk(node: Any, trust: Trust) -> None:
    if isinstance(node, list):
        for item in node:
            _walk(item, trust)
    elif isinstance(node, dict):
        name = str(node.get("target", "")).rpartition(".")[2]
        params = node.get("params") or {}
        change = _CHANGES.get(name) or _narrow(node, trust)
        if change is not None:
            change(params)
        if name == "BertTokenizer":
            _tokenizer(node)
        if name == "PretrainedText":
            _frozen_text(node)
        for item in node.values():
            _walk(item, trust)


def _narrow(node: dict[str, Any], trust: Trust) -> Callable[[dict[str, Any]], None] | None:
    """How a class says that it is narrowed."""
    try:
        return getattr(trust.resolve(str(node.get("target"))), "narrow", None)
    except ValueError:
        return None


def _unet(params: dict[str, Any]) -> None:
    # A multiple of the head width, so that heads divide it as they divide the real width.
    head = params.get("head_channels") or params.get("heads") or 1
    params["width"] = min(params["width"], head * max(1, WIDTH // head))
    if params.get("context_channels"):
        params["context_channels"] = WIDTH
    if "transformer_depth" in params:
        params["transformer_depth"] = 1


def _autoencoder(params: dict[str, Any]) -> None:
    params["width"] = min(params["width"], WIDTH)
    if "codebook_size" in params:
        params["codebook_size"] = min(params["codebook_size"], 64)


def _text(params: dict[str, Any]) -> None:
    params.update(width=WIDTH, depth=min(params.get("depth", 1), 2), heads=2, head_channels=16, logit_head=False)


def _label(params: dict[str, Any]) -> None:
    params["width"] = WIDTH


def _loss(params: dict[str, Any]) -> None:
    params["perceptual"] = None
    params["adversarial_start"] = 0  # the adversary's path has to work too


def _discriminator(params: dict[str, Any]) -> None:
    params["width"] = 8


def _tokenizer(node: dict[str, Any]) -> None:
    # BERT's vocabulary may not be there, and a narrow step asks nothing of the words.
    node.update(target="ldm.conditioning.WordTokenizer", params={"words": []})


def _frozen_text(node: dict[str, Any]) -> None:
    # Its weights may not be there, and it does not learn: any small text encoder stands for it.
    params = {key: value for key, value in (node.get("params") or {}).items() if key in ("length", "drop_rate")}
    words = {"target": "ldm.conditioning.WordTokenizer", "params": {"words": []}}
    small = {"tokenizer": words, "width": WIDTH, "depth": 1, "heads": 2, "head_channels": 16}
    node.update(target="ldm.conditioning.TextTransformer", params={"length": 77, **params, **small})


_CHANGES = {
    "UNet": _unet,
    "KLAutoencoder": _autoencoder,
    "VQAutoencoder": _autoencoder,
    "TextTransformer": _text,
    "ClassEmbedding": _label,
    "GivenContext": _label,
    "LayoutTransformer": _text,
    "NoisyClassifier": _unet,
    "AutoencoderLoss": _loss,
    "PatchDiscriminator": _discriminator,
}
