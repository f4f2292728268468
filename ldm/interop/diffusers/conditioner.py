"""The conditioner in a format of our own, `conditioner/`: diffusers has no class for it."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ldm.conditioning import ConcatImage, Conditioner, TextTransformer, Unconditional
from ldm.config import AllowedTargets, build
from ldm.errors import MissingFile, UserError
from ldm.interop.diffusers.text import read_bert, read_bert_weights
from ldm.interop.settings import Node
from ldm.nn.meta import on_meta
from ldm.system.weights import read_weights, save_weights

FILE = Path("conditioner") / "conditioner.safetensors"
TEXT_PREFIX = "transformer."


def write_conditioner(conditioner: Conditioner, node: Node, folder: Path, with_bert: bool) -> list[str]:
    """The description in the header and the weights, without those that `bert/` holds; nothing for no condition."""
    if isinstance(conditioner, Unconditional):
        return []
    weights = conditioner.state_dict()
    if with_bert:
        weights = {name: value for name, value in weights.items() if not name.startswith(TEXT_PREFIX)}
    save_weights(folder / FILE, weights, {"conditioner": node})
    return [] if with_bert else [f"{FILE.parent}/ holds what conditions the model; diffusers has no class that reads it"]


def read_conditioner(folder: Path, index: Mapping[str, Any], extra_channels: int, context: bool) -> tuple[Node | None, dict[str, Tensor]]:
    """Node and weights (bare names) of the conditioner; None if there is none.

    Args:
        folder: of the model.
        index: its `model_index.json`, empty if it has none.
        extra_channels: that the network takes beside the latent.
        context: whether the network takes tokens.

    Raises:
        UserError: conditions that no part of the folder describes.
    """
    bert = folder / "bert"
    if (folder / FILE).is_file():
        weights, header = read_weights(folder / FILE)
        node = header.get("conditioner")
        if not isinstance(node, dict):
            raise UserError(f"{folder / FILE}: its header has no 'conditioner', expected the description of the conditioner")
        if "bert" in index:
            node = _with_tokenizer_of(folder, node)
            return node, {**weights, **_bert_weights(node, bert)}
        return node, weights
    if "bert" in index and context and not extra_channels:
        node = read_bert(bert)
        return node, _bert_weights(node, bert)
    if index.get("_class_name") == "LDMSuperResolutionPipeline" and not context:
        return {"target": "ldm.conditioning.ConcatImage", "params": {"key": "low_res", "channels": extra_channels}}, {}
    if context or extra_channels:
        inlet = "tokens" if context else f"{extra_channels} further channels"
        raise MissingFile(
            f"{folder / FILE}: missing, and nothing else says what the network's {inlet} are; expected the conditioner as this "
            f"project writes it, or bert/ of an LDMTextToImagePipeline"
        )
    return None, {}


def is_low_res(conditioner: Conditioner, channels: int) -> bool:
    """Whether `LDMSuperResolutionPipeline` would concatenate the image as we do: unchanged, with as many channels as the latent."""
    return (
        isinstance(conditioner, ConcatImage)
        and conditioner.key == "low_res"
        and not conditioner.encode_first
        and conditioner.factor == conditioner.enlarge == conditioner.fold == 1
        and not conditioner.signed
        and conditioner.fill is None
        and conditioner.concat_channels == channels
    )


def _with_tokenizer_of(folder: Path, node: Node) -> Node:
    """The node with the tokenizer of the folder, if there is one, instead of the path in training."""
    tokenizer = node.get("params", {}).get("tokenizer")
    if not (folder / "tokenizer" / "vocab.txt").is_file() or not isinstance(tokenizer, dict):
        return node
    node = copy.deepcopy(node)
    params = node["params"]["tokenizer"].setdefault("params", {})
    params["source"] = str(folder / "tokenizer")
    return node


def _bert_weights(node: Node, bert: Path) -> dict[str, Tensor]:
    with on_meta():
        conditioner = build(node, AllowedTargets(), "conditioner")
    if not isinstance(conditioner, TextTransformer):
        raise UserError(f"{bert}: belongs to a TextTransformer, but {FILE} describes a {type(conditioner).__name__}")
    return {f"{TEXT_PREFIX}{name}": value for name, value in read_bert_weights(conditioner.transformer, bert).items()}
