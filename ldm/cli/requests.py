"""What the images are asked to show, from flags to entries of a batch."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ldm.cli.typed import noted, typed_entries, typed_keys
from ldm.conditioning import TextConditioner
from ldm.data.batch import LISTS, Batch
from ldm.errors import UserError
from ldm.model import LatentDiffusion

log = logging.getLogger(__name__)
SCRIPTS = {  # by what a model reads; of a model that reads several things, the first one here decides
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
class Request:
    """The condition of one image.

    Attributes:
        entries: of a batch, for one image.
        note: what the PNG says about it; goes into JSON.
        picture: of the condition, shown beside the result.
    """

    entries: dict[str, Any] = field(default_factory=dict)
    note: dict[str, Any] = field(default_factory=dict)
    picture: Image.Image | None = None

    def along_with(self, other: "Request") -> "Request":
        """Both conditions at once, with the picture of the first."""
        return Request(self.entries | other.entries, self.note | other.note, self.picture)


def together(asked: Sequence[Request]) -> Batch:
    """Conditions of several images as a batch."""
    batch: Batch = {}
    for key in asked[0].entries:
        values = [one.entries[key] for one in asked]
        if isinstance(values[0], int | float):
            batch[key] = torch.tensor(values)
        else:
            batch[key] = torch.stack(values) if isinstance(values[0], Tensor) and key not in LISTS else values
    return batch


def part_reading(model: LatentDiffusion, key: str) -> Any:
    """The conditioner that reads a batch key; None if there is none."""
    return next((part for part in model.conditioner.leaves() if key in part.keys), None)


def reads(model: LatentDiffusion) -> str:
    """What a model reads, for messages."""
    return ", ".join(model.conditioner.reads) or "no condition"


def advice(model: LatentDiffusion, known: Sequence[str] = ()) -> str:
    """The script for a model, at the end of a message; nothing if that is the one that knows `known`, which cannot do it."""
    found = model.conditioner.reads
    if not found:
        return ": use scripts/sample.py"
    key = next((key for key in SCRIPTS if key in found), "")
    if key == "caption" and "label" in found and "label" not in known:
        return ": use scripts/sample.py with --classes and --prompt"
    return f": use scripts/{SCRIPTS[key]}" if key and key not in known else ""


def refuse_others(model: LatentDiffusion, known: Sequence[str]) -> None:
    """A model that reads more than a script can give.

    Raises:
        UserError: names what, and the script for it.
    """
    if others := [key for key in model.conditioner.reads if key not in known]:
        raise UserError(f"this model reads {', '.join(others)}, which this script has no flag for{advice(model, known)}")


def classes_and_prompts(flags: argparse.Namespace, model: LatentDiffusion, classes: int = 0, also: Sequence[str] = ()) -> list[Request]:
    """What `--classes` or `--prompts` ask for, gone through in turn.

    Args:
        flags: the command line.
        model: to be asked.
        classes: those of a classifier that guides; a model with labels of its own may know more of them, or fewer.
        also: batch keys that come from elsewhere.

    Raises:
        UserError: a condition that the model does not take, or one that it lacks.
    """
    by_label, by_caption = part_reading(model, "label"), part_reading(model, "caption")
    if flags.classes is not None and by_label is None and not classes:
        raise UserError(f"--classes: this model reads {reads(model)}, not class labels")
    if flags.prompts is not None and by_caption is None:
        raise UserError(f"--prompt: this model reads {reads(model)}, not captions")
    refuse_others(model, ("label", "caption", *also, *typed_keys(model)))
    if by_caption is not None and flags.prompts is None:
        raise UserError('this model reads captions: give --prompt "..."')
    counts = [count for count in (by_label.keys["label"].high + 1 if by_label else 0, classes) if count]
    labels = class_list(flags.classes, int(min(counts))) if counts else []
    check_captions(model, flags.prompts or [], "--prompt")
    typed = typed_entries(getattr(flags, "conditions", []), model)
    count = max(len(labels), len(flags.prompts or []), len(typed), 1)
    asked = []
    for i in range(count):
        entry, more = one_of(labels, flags.prompts, i), typed[i % len(typed)]
        asked.append(Request(entry | more, entry | noted(more)))
    return asked


def balanced_or_listed(flags: argparse.Namespace, model: LatentDiffusion, classes: int) -> list[Request]:
    """What `--classes` and `--prompt` ask for.

    Raises:
        UserError: classes cannot come equally often, or something is asked that the model does not take.
    """
    asked = classes_and_prompts(flags, model, classes)
    if flags.classes == "balanced" and flags.n % (known := len({one.entries["label"] for one in asked})):
        raise UserError(f"--classes balanced: {flags.n} images are not the same number of each of {known} classes")
    return asked


def each_with(asked: Sequence[Request], others: Sequence[Request], n: int) -> list[Request]:
    """`n` images of each condition, which go through the other conditions in turn."""
    repeated = [one for one in asked for _ in range(n)]
    return [one.along_with(others[i % len(others)]) for i, one in enumerate(repeated)]


def one_of(labels: Sequence[int], prompts: Sequence[str] | None, i: int) -> dict[str, Any]:
    """Label and caption of image i, whichever there are."""
    entry: dict[str, Any] = {"label": labels[i % len(labels)]} if labels else {}
    return entry | ({"caption": prompts[i % len(prompts)]} if prompts else {})


def check_captions(model: LatentDiffusion, captions: Sequence[str], flag: str) -> None:
    """Whether a model can read captions whole; says which are too long for it, and how much of them it reads.

    Raises:
        UserError: no text, or words that are not in a closed vocabulary.
    """
    part = part_reading(model, "caption")
    if broken := [text for text in captions if any("\ud800" <= letter <= "\udfff" for letter in text)]:  # bytes that are no UTF-8
        raise UserError(f"{flag} {ascii(broken[0])}: not UTF-8 text")
    if not isinstance(part, TextConditioner):
        return
    if words := sorted({word for text in captions for word in part.unknown(text)}):
        raise UserError(f"{flag}: the model's vocabulary lacks {', '.join(words)}; it knows {', '.join(part.words())}")
    for text in dict.fromkeys(captions):
        if (length := part.count(text)) > part.length:
            log.warning("%s: %d tokens, of which the model reads the first %d: %s", flag, length, part.length, text)


def class_list(text: str | None, num_classes: int) -> list[int]:
    """ "0,3,7-9" -> [0, 3, 7, 8, 9]; all classes without a text, and for "balanced".

    Raises:
        UserError: no number, or a class that does not exist.
    """
    if text is None or text == "balanced":
        return list(range(num_classes))
    chosen: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()) or int(high or low) < int(low):
            raise UserError(f"--classes {text!r}: expected numbers like 0,3,7-9")
        if int(high or low) >= num_classes:
            raise UserError(f"--classes {text!r}: there are classes 0 to {num_classes - 1}")
        chosen += range(int(low), int(high or low) + 1)
    return chosen
