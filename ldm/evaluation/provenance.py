"""How a set of samples was made, as the samples themselves say: the text chunk "ldm" of each PNG."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ldm.errors import UserError

# What may differ between the images of one set: which one it is, and what it was asked to show. All else is a setting.
FILES = {f"{key}{more}" for key in ("image", "mask", "low_res") for more in ("", "_sha256")}
PER_IMAGE = {"number", "noise", "label", "condition", "caption", "boxes", "segmentation", "candidate", "model", *FILES}
OWN = ("seed", "sha256", "step", "sampler", "steps", "eta", "scale")  # fields of a record of their own


@dataclass(frozen=True)
class Provenance:
    """The settings that all images of a set share; None where they say nothing.

    Attributes:
        seed, checkpoint, training_step, sampler, steps, eta, scale: as in a record.
        others: what else they say.
        class_balance: how often each class was requested.
    """

    seed: int | None = None
    checkpoint: str | None = None
    training_step: int | None = None
    sampler: str | None = None
    steps: int | None = None
    eta: float | None = None
    scale: float | None = None
    others: Mapping[str, Any] = field(default_factory=dict)
    class_balance: str | None = None


def how_made(settings: Sequence[Mapping[str, Any] | None], names: Sequence[str], what: str) -> Provenance:
    """What a set says about itself.

    Args:
        settings: of each image.
        names: of each image, for messages.
        what: the set, for messages.

    Raises:
        UserError: settings that are mixed, images that say nothing among others that do, or numbers that are missing or repeated.
    """
    if all(one is None for one in settings):
        return Provenance()
    if None in settings:
        at = list(settings).index(None)
        raise UserError(f"{what}: {names[at]} does not say how it was made, others do: is it one of the samples?")
    told = [one for one in settings if one is not None]
    first = shared(told[0])
    for name, one in zip(names, told, strict=True):
        if shared(one) != first:
            other = shared(one)
            key = next(key for key in sorted({*first, *other}) if first.get(key) != other.get(key))
            raise UserError(f"{what}: mixed settings: {key} is {first.get(key)!r} in {names[0]} and {other.get(key)!r} in {name}")
    check_numbers([one["number"] for one in told if "number" in one], what)
    others = {key: value for key, value in first.items() if key not in OWN}
    own = {key: first.get(key) for key in OWN if key not in ("sha256", "step")}
    return Provenance(**own, checkpoint=first.get("sha256"), training_step=first.get("step"), others=others, class_balance=balance(told))  # type: ignore[arg-type]


def shared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be the same in all images."""
    return {key: value for key, value in settings.items() if key not in PER_IMAGE}


def check_numbers(numbers: Sequence[int], what: str) -> None:
    """Whether the images are a run of numbers without a gap.

    Raises:
        UserError: they are not; names a number.
    """
    counts = Counter(numbers)
    if repeated := [number for number, count in counts.items() if count > 1]:
        raise UserError(f"{what}: two images say that they are number {repeated[0]} of their set")
    if counts and (gaps := set(range(min(counts), max(counts) + 1)) - counts.keys()):
        raise UserError(f"{what}: image number {min(gaps)} of the set is missing ({len(gaps)} of {max(counts) - min(counts) + 1} are)")


def balance(settings: Sequence[Mapping[str, Any]]) -> str:
    """How often each class or caption was requested, as text that differs for other classes and other captions."""
    labels = Counter(one["label"] for one in settings if one.get("label") is not None)
    if not labels:
        texts = Counter(one["caption"] for one in settings if "caption" in one)
        return f"{len(texts)} captions ({digest(texts)})" if texts else "no classes"
    low, high = min(labels.values()), max(labels.values())
    often = f"{low} of each" if low == high else f"{low} to {high} of each"
    plain = low == high and labels.keys() == set(range(len(labels)))  # the first so many classes: nothing is left to tell
    rest = "" if sum(labels.values()) == len(settings) else f", {len(settings)} images in all"
    return f"{len(labels)} classes, {often}" + ("" if plain else f" ({digest(labels)})") + rest


def digest(counts: Mapping[Any, int]) -> str:
    """The beginning of a SHA-256 over what was asked and how often."""
    return hashlib.sha256(json.dumps(sorted(counts.items(), key=str)).encode()).hexdigest()[:12]
