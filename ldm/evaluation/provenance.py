"""How a set was sampled, as stored in its images: the text chunk "ldm" of each PNG."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ldm.errors import UserError

# What may differ between the images of one set: which image it is, and its conditions. Everything else is a setting.
FILES = {f"{key}{more}" for key in ("image", "mask", "low_res") for more in ("", "_sha256")}
PER_IMAGE = {"number", "noise", "label", "class", "condition", "caption", "boxes", "segmentation", "candidate", "model", *FILES}
FIELDS = {  # of a record, by the key of a setting; other settings are its `sampling`
    "seed": "seed",
    "sha256": "checkpoint",
    "step": "training_step",
    "sampler": "sampler",
    "steps": "steps",
    "eta": "eta",
    "scale": "scale",
}


def provenance_of(settings: Sequence[Mapping[str, Any] | None], names: Sequence[str], what: str) -> dict[str, Any]:
    """The fields of a record that are stored in a set; none if its images have no settings.

    Args:
        settings: of each image.
        names: of each image, for messages.
        what: the set, for messages.

    Raises:
        UserError: settings that are mixed, or that only some images have; numbers that are missing or repeated.
    """
    known = [one for one in settings if one is not None]
    if not known:
        return {}
    if len(known) < len(settings):
        at = list(settings).index(None)
        raise UserError(f"{what}: {names[at]} stores no sampling settings, others do: is it one of the samples?")
    first = shared(known[0])
    for name, one in zip(names, known, strict=True):
        if (other := shared(one)) != first:
            key = next(key for key in sorted({*first, *other}) if first.get(key) != other.get(key))
            raise UserError(f"{what}: mixed settings: {key} is {first.get(key)!r} in {names[0]} and {other.get(key)!r} in {name}")
    check_numbers([one["number"] for one in known if "number" in one], what)
    return {
        **{field: first.get(key) for key, field in FIELDS.items()},
        "sampling": {key: value for key, value in first.items() if key not in FIELDS},
        "class_balance": balance(known),
    }


def shared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be the same in all images."""
    return {key: value for key, value in settings.items() if key not in PER_IMAGE}


def check_numbers(numbers: Sequence[int], what: str) -> None:
    """Check that the numbers of images are consecutive.

    Raises:
        UserError: a number that is repeated or missing.
    """
    counts = Counter(numbers)
    if repeated := [number for number, count in counts.items() if count > 1]:
        raise UserError(f"{what}: two images are number {repeated[0]} of the set")
    if counts and (gaps := set(range(min(counts), max(counts) + 1)) - counts.keys()):
        raise UserError(f"{what}: image number {min(gaps)} of the set is missing ({len(gaps)} of {max(counts) - min(counts) + 1} are)")


def balance(settings: Sequence[Mapping[str, Any]]) -> str:
    """How often each class or caption was requested, as text that differs for other classes and other captions."""
    labels = Counter(one["label"] for one in settings if one.get("label") is not None)
    if not labels:
        captions = Counter(one["caption"] for one in settings if "caption" in one)
        return f"{len(captions)} captions ({digest(captions)})" if captions else "no classes"
    low, high = min(labels.values()), max(labels.values())
    often = f"{low} of each" if low == high else f"{low} to {high} of each"
    plain = low == high and labels.keys() == set(range(len(labels)))  # classes 0, 1, ..., equally often: nothing more to tell
    rest = "" if labels.total() == len(settings) else f", {len(settings)} images in all"
    return f"{len(labels)} classes, {often}" + ("" if plain else f" ({digest(labels)})") + rest


def digest(counts: Mapping[Any, int]) -> str:
    """The beginning of a SHA-256 over the requested classes or captions and their counts."""
    return hashlib.sha256(json.dumps(sorted(counts.items(), key=str)).encode()).hexdigest()[:12]
