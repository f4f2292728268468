"""What the images are asked to show, from flags to entries of a batch."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ldm.conditioning import Conditioner, Joint
from ldm.data.batch import LISTS, Batch
from ldm.errors import UserError
from ldm.latent_diffusion import LatentDiffusion

SCRIPTS = {
    "label": "sample.py with --classes",
    "caption": "txt2img.py",
    "boxes": "layout2img.py",
    "box_labels": "layout2img.py",
    "segmentation": "semantic.py",
    "low_res": "superres.py",
    "mask": "inpaint.py",
    "masked_image": "inpaint.py",
}


@dataclass
class Asked:
    """The condition of one image.

    Attributes:
        entries: of a batch, for one image.
        note: what the PNG says about it; goes into JSON.
        picture: of the condition, shown beside the result.
    """

    entries: dict[str, Any] = field(default_factory=dict)
    note: dict[str, Any] = field(default_factory=dict)
    picture: Image.Image | None = None


def together(asked: Sequence[Asked]) -> Batch:
    """Conditions of several images as a batch."""
    batch: Batch = {}
    for key in asked[0].entries:
        values = [one.entries[key] for one in asked]
        if key == "label":
            batch[key] = torch.tensor(values)
        else:
            batch[key] = torch.stack(values) if isinstance(values[0], Tensor) and key not in LISTS else values
    return batch


def part_reading(model: LatentDiffusion, key: str) -> Any:
    """The conditioner that reads a batch key, none if there is none."""
    parts = [part for part in model.conditioner.modules() if isinstance(part, Conditioner) and not isinstance(part, Joint)]
    return next((part for part in parts if key in part.reads), None)


def reads(model: LatentDiffusion) -> str:
    """What a model reads, for messages."""
    return ", ".join(model.conditioner.reads) or "no condition"


def refuse_others(model: LatentDiffusion, known: Sequence[str]) -> None:
    """A model that reads more than a script can give.

    Raises:
        UserError: names what, and the script for it.
    """
    others = [key for key in model.conditioner.reads if key not in known]
    if others:
        advice = next((f": use scripts/{SCRIPTS[key]}" for key in others if key in SCRIPTS), "")
        raise UserError(f"this model reads {', '.join(others)}, which this script has no flag for{advice}")


def classes_and_prompts(flags: argparse.Namespace, model: LatentDiffusion, classes: int = 0, also: Sequence[str] = ()) -> list[Asked]:
    """What `--classes` or `--prompts` ask for, gone through in turn.

    Args:
        flags: the command line.
        model: to be asked.
        classes: those of a classifier that guides a model without labels of its own.
        also: batch keys that come from elsewhere.

    Raises:
        UserError: a condition that the model does not take, or one that it lacks.
    """
    by_label, by_caption = part_reading(model, "label"), part_reading(model, "caption")
    if flags.classes is not None and by_label is None and not classes:
        raise UserError(f"--classes: this model reads {reads(model)}, not class labels")
    if flags.prompts is not None and by_caption is None:
        raise UserError(f"--prompts: this model reads {reads(model)}, not captions")
    refuse_others(model, ("label", "caption", *also))
    if by_caption is not None and flags.prompts is None:
        raise UserError('this model reads captions: give --prompts "..." ["..."]')
    labels = class_list(flags.classes, by_label.num_classes if by_label else classes) if by_label or classes else []
    check_words(model, flags.prompts or [], "--prompts")
    count = max(len(labels), len(flags.prompts or []), 1)
    return [Asked(entry := one_of(labels, flags.prompts, i), entry) for i in range(count)]


def one_of(labels: Sequence[int], prompts: Sequence[str] | None, i: int) -> dict[str, Any]:
    """Label and caption of image i, whichever there are."""
    entry: dict[str, Any] = {"label": labels[i % len(labels)]} if labels else {}
    return entry | ({"caption": prompts[i % len(prompts)]} if prompts else {})


def check_words(model: LatentDiffusion, captions: Sequence[str], flag: str) -> None:
    """Whether a closed vocabulary has all the words.

    Raises:
        UserError: names those that it lacks.
    """
    tokenizer = getattr(part_reading(model, "caption"), "tokenizer", None)
    unknown = getattr(tokenizer, "unknown", None)
    if unknown is not None and (words := sorted({word for text in captions for word in unknown(text)})):
        raise UserError(f"{flag}: the model's vocabulary lacks {', '.join(words)}; it knows {', '.join(tokenizer.ids)}")  # type: ignore[union-attr]


def class_list(text: str | None, num_classes: int) -> list[int]:
    """ "0,3,7-9" -> [0, 3, 7, 8, 9]; all classes without a text.

    Raises:
        UserError: no number, or a class that does not exist.
    """
    if text is None:
        return list(range(num_classes))
    chosen: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise UserError(f"--classes {text!r}: expected numbers like 0,3,7-9")
        chosen += range(int(low), int(high if dash else low) + 1)
    if not chosen or max(chosen) >= num_classes:
        raise UserError(f"--classes {text!r}: the model has classes 0 to {num_classes - 1}")
    return chosen
