"""Conditions that do not match the latent or the network, by their path in the config; and data that the model does not read."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ldm.conditioning import ConcatImage, Conditioner, Joint, TextConditioner
from ldm.data.batch import Batch
from ldm.training import DiffusionTraining
from ldm.training.module import TrainingModule

CONDITIONER = "model.params.model.params.conditioner"
ADDED = {"labels": "label", "captions": "caption"}  # arguments of data sets -> keys that they add to a sample


def condition_problems(module: DiffusionTraining, batch: Batch) -> list[str]:
    """Conditions whose size or width differs from what the network was built for."""
    model = module.model
    _, h, w = model.first_stage.latent_shape(*batch["image"].shape[2:])
    found = []
    for path, part in _parts(model.conditioner, CONDITIONER):
        key = part.reads[0] if part.reads else ""
        try:
            with torch.no_grad():
                condition = part(batch, model.encode_condition)
        except Exception as error:  # of any kind, from an unsupported shape
            found.append(f"{path}: {type(part).__name__} cannot use {key!r}{_shape(batch.get(key))}: {str(error).splitlines()[0]}")
            continue
        concat, context = condition.concat, condition.context
        if concat is not None and concat.shape[2:] != (h, w):
            size = f"{concat.shape[2]}x{concat.shape[3]}"
            found.append(f"{path}: {key} is {size}, the latent {h}x{w}{_advice(part, concat, h, w)}")
        elif concat is not None and concat.shape[1] != part.concat_channels:
            found.append(f"{path}.params.channels: {key} has {concat.shape[1]} channels, the config says {part.concat_channels}")
        if context is not None and context.shape[2] != part.context_channels:
            found.append(f"{path}.params.width: {key} has tokens of width {context.shape[2]}, the config says {part.context_channels}")
    return found


def _parts(part: nn.Module, path: str) -> Iterator[tuple[str, Conditioner]]:
    if isinstance(part, Joint):
        for i, inner in enumerate(part.parts):
            yield from _parts(inner, f"{path}.params.parts.{i}")
    elif isinstance(part, Conditioner):
        yield path, part


def _shape(value: Any) -> str:
    return f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""


def _advice(part: Conditioner, concat: Tensor, h: int, w: int) -> str:
    """Advice on how to make the sizes equal, if known."""
    if not isinstance(part, ConcatImage) or part.encode_first:
        return ""
    larger, smaller = concat.shape[2] / h, h / concat.shape[2]
    before = part.fold * part.factor
    if larger >= 1 and (larger * before).is_integer():
        times = int(larger * before)
        return f": set fold: {times} on {type(part).__name__} (or factor: {times}, which drops pixels)"
    if (smaller * part.enlarge).is_integer() and before == 1:
        return f": set enlarge: {int(smaller * part.enlarge)} on {type(part).__name__}"
    return ""


def unknown_words(batch: Batch, module: TrainingModule) -> list[str]:
    """Words of captions that a tokenizer does not know, so that they share one token."""
    found = []
    for part in module.modules():
        if not isinstance(part, TextConditioner) or "caption" not in batch:
            continue
        if words := sorted({word for text in batch["caption"] for word in part.unknown(text)}):
            shown = ", ".join(words[:5]) + (f" and {len(words) - 5} more" if len(words) > 5 else "")
            found.append(f"data.params.train: not in the tokenizer's vocabulary: {shown} (in {len(batch['caption'])} captions)")
    return found


def repeated(node: Any, path: str) -> list[str]:
    """Texts that occur twice in a list of a model's conditioner, such as a vocabulary: one of them is never used."""
    if isinstance(node, dict):
        return [text for key, item in node.items() for text in repeated(item, f"{path}.{key}")]
    if not isinstance(node, list):
        return []
    twice = [text for text, count in Counter(item for item in node if isinstance(item, str)).items() if count > 1]
    found = [f"{path}: {', '.join(map(repr, twice[:5]))} occurs more than once"] if twice else []
    return found + [text for i, item in enumerate(node) for text in repeated(item, f"{path}.{i}")]


def unread(node: Any, path: str, reads: tuple[str, ...]) -> list[str]:
    """Arguments of a data set for conditions that the model does not read."""
    params = node.get("params") if isinstance(node, dict) else None
    if not isinstance(params, dict):
        return []
    added = [(name, key) for name, key in ADDED.items() if params.get(name) is True]
    added += [("give", key) for key in params.get("give") or () if isinstance(params.get("give"), list)]
    found = [f"{path}.params.{name}: the model does not read {key!r} and trains without it" for name, key in added if key not in reads]
    inner = [("images", params.get("images")), *((f"sets.{i}", one) for i, one in enumerate(params.get("sets") or ()))]
    return found + [text for name, one in inner for text in unread(one, f"{path}.params.{name}", reads)]
