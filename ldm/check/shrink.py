"""The same config with narrow networks: one step on a CPU is fast, and fails where the full one would."""

import copy
from typing import Any

from ldm.checkpoint.source import nodes_of
from ldm.config import AllowedTargets
from ldm.networks.base import NARROW


def shrink(node: Any, trust: AllowedTargets | None = None) -> Any:
    """A copy of a model's node in which the arguments of every class with a static method `narrow` are changed by it."""
    node = copy.deepcopy(node)
    for one in nodes_of(node):
        if "target" in one:
            _narrow(one, trust or AllowedTargets())
    return node


def _narrow(node: dict[str, Any], trust: AllowedTargets) -> None:
    replace = _WITHOUT_FILES.get(str(node["target"]))
    if replace is not None:
        replace(node)
        return
    try:
        narrow = getattr(trust.resolve(str(node["target"])), "narrow", None)
    except ValueError:  # reported by the build
        return
    if callable(narrow):
        narrow(node.setdefault("params", {}))


def _tokenizer(node: dict[str, Any]) -> None:
    # BERT's vocabulary may be missing, and the narrow step does not depend on the words.
    node.update(target="ldm.conditioning.WordTokenizer", params={"words": []})


def _frozen_text(node: dict[str, Any]) -> None:
    # Its weights may be missing, and it is frozen: any small text encoder can replace it.
    params = {key: value for key, value in (node.get("params") or {}).items() if key in ("length", "uncond_prob")}
    words = {"target": "ldm.conditioning.WordTokenizer", "params": {"words": []}}
    small = {"tokenizer": words, "width": NARROW, "depth": 1, "heads": 2, "head_channels": 16}
    node.update(target="ldm.conditioning.TextTransformer", params={"length": 77, **params, **small})


_WITHOUT_FILES = {"ldm.conditioning.BertTokenizer": _tokenizer, "ldm.conditioning.PretrainedText": _frozen_text}
