"""Conditions of images: from flags to entries of a batch."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ldm.cli.other_conditions import entries_from_flags, noted, other_keys
from ldm.conditioning import TextConditioner
from ldm.data.batch import LISTS, Batch
from ldm.data.classes import Classes
from ldm.errors import UserError
from ldm.model import LatentDiffusion

log = logging.getLogger(__name__)
SCRIPTS = {  # by what a model reads; of a model that reads several keys, the first one here decides
    "masked_image": "inpaint.py",
    "mask": "inpaint.py",
    "low_res": "superres.py",
    "segmentation": "semantic.py",
    "boxes": "layout2img.py",
    "box_labels": "layout2img.py",
    "caption": "txt2img.py",
    "label": "sample.py with --classes",
}


@dataclass
class Condition:
    """The condition of one image.

    Attributes:
        entries: of a batch, for one image.
        note: what the PNG says about it; JSON.
        picture: of the condition, shown beside the result.
    """

    entries: dict[str, Any] = field(default_factory=dict)
    note: dict[str, Any] = field(default_factory=dict)
    picture: Image.Image | None = None

    def __or__(self, other: "Condition") -> "Condition":
        """Both conditions at once."""
        return Condition(self.entries | other.entries, self.note | other.note, self.picture or other.picture)


def batch_of(conditions: Sequence[Condition]) -> Batch:
    """Conditions of several images as a batch."""
    batch: Batch = {}
    for key in conditions[0].entries:
        values = [one.entries[key] for one in conditions]
        if isinstance(values[0], int | float):
            batch[key] = torch.tensor(values)
        else:
            batch[key] = torch.stack(values) if isinstance(values[0], Tensor) and key not in LISTS else values
    return batch


def conditioner_for(model: LatentDiffusion, key: str) -> Any:
    """The conditioner that reads a batch key; None if there is none."""
    return next((part for part in model.conditioner.leaves() if key in part.keys), None)


def reads(model: LatentDiffusion) -> str:
    """What a model reads, for messages."""
    return ", ".join(model.conditioner.reads) or "no condition"


def advice(model: LatentDiffusion, known: Sequence[str] = ()) -> str:
    """The script for a model, at the end of a message; "" if that is the one that knows `known`."""
    found = model.conditioner.reads
    if not found:
        return ": use scripts/sample.py"
    key = next((key for key in SCRIPTS if key in found), "")
    if key == "caption" and "label" in found and "label" not in known:
        return ": use scripts/sample.py with --classes and --prompt"
    return f": use scripts/{SCRIPTS[key]}" if key and key not in known else ""


def refuse_others(model: LatentDiffusion, known: Sequence[str]) -> None:
    """Check that a script has flags for all that a model reads.

    Raises:
        UserError: it has not; names the keys, and the script for the model.
    """
    if others := [key for key in model.conditioner.reads if key not in known]:
        raise UserError(f"this model reads {', '.join(others)}, which this script has no flag for{advice(model, known)}")


def conditions_from_flags(flags: argparse.Namespace, model: LatentDiffusion, classes: Classes, also: Sequence[str] = ()) -> list[Condition]:
    """Conditions of `--classes`, `--prompt` and `--condition`, which are used in turn.

    Args:
        flags: the command line.
        model: the model.
        classes: of the model, or of the classifier that guides it.
        also: batch keys that come from elsewhere.

    Raises:
        UserError: a condition that the model does not read, or one that is missing.
    """
    by_caption = conditioner_for(model, "caption")
    if flags.classes is not None and not classes.count:
        raise UserError(f"--classes: this model reads {reads(model)}, not class labels")
    if flags.prompts is not None and by_caption is None:
        raise UserError(f"--prompt: this model reads {reads(model)}, not captions")
    refuse_others(model, ("label", "caption", *also, *other_keys(model)))
    if by_caption is not None and flags.prompts is None:
        raise UserError('this model reads captions: give --prompt "..."')
    labels = [labelled(index, classes) for index in class_list(flags.classes, classes)] or [Condition()]
    check_captions(model, flags.prompts or [], "--prompt")
    captions = [{"caption": text} for text in flags.prompts or []] or [{}]
    others = entries_from_flags(getattr(flags, "conditions", []), model)
    found = []
    for i in range(max(len(labels), len(captions), len(others))):
        caption, more = captions[i % len(captions)], others[i % len(others)]
        found.append(labels[i % len(labels)] | Condition(caption | more, caption | noted(more)))
    return found


def labelled(index: int, classes: Classes) -> Condition:
    """The condition on a class; its name is noted if it has one."""
    name = {"class": classes.names[index]} if index in classes.names else {}
    return Condition({"label": index}, {"label": index, **name})


def each_with(conditions: Sequence[Condition], others: Sequence[Condition], n: int) -> list[Condition]:
    """`n` images of each condition, combined with the other conditions in turn."""
    repeated = [one for one in conditions for _ in range(n)]
    return [one | others[i % len(others)] for i, one in enumerate(repeated)]


def check_captions(model: LatentDiffusion, captions: Sequence[str], flag: str) -> None:
    """Check that a model can read captions; warns of those that it truncates.

    Raises:
        UserError: not text, or words that are not in a closed vocabulary.
    """
    part = conditioner_for(model, "caption")
    if broken := [text for text in captions if any("\ud800" <= letter <= "\udfff" for letter in text)]:  # bytes that are not UTF-8
        raise UserError(f"{flag} {ascii(broken[0])}: not UTF-8 text")
    if not isinstance(part, TextConditioner):
        return
    if words := sorted({word for text in captions for word in part.unknown(text)}):
        known = f"; it has {', '.join(part.words())}" if part.words() else "; the captions that it was trained on had none of these"
        raise UserError(f"{flag}: not in the model's vocabulary: {', '.join(words)}{known}")
    for text in dict.fromkeys(captions):
        if (length := part.count(text)) > part.length:
            log.warning("%s: %d tokens, of which the model reads the first %d: %s", flag, length, part.length, text)


def class_list(words: Sequence[str] | None, classes: Classes) -> list[int]:
    """Indices of the classes that `--classes` names; all without the flag, and for "balanced".

    Raises:
        UserError: a class that does not exist.
    """
    if words is None or list(words) == ["balanced"]:
        return list(range(classes.count))
    chosen: list[int] = []
    for word in words:
        try:
            chosen += classes.listed(word)
        except ValueError as error:
            raise UserError(f"--classes {word!r}: {error}") from error
    return chosen
