"""Statistics of a data set: sizes, classes, captions, boxes, label maps, and what cannot be read."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ldm.data.batch import Sample
from ldm.data.maps import UNLABELLED
from ldm.evaluation.draw import ClassNames, class_name

SHOWN = 8  # of the most frequent


@dataclass
class Inventory:
    """Counts over samples; `add` them one by one, then read `lines`."""

    read: int = 0
    broken: list[str] = field(default_factory=list)
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    stored: Counter[tuple[int, int]] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    captions: Counter[str] = field(default_factory=Counter)
    boxes: list[int] = field(default_factory=list)
    box_areas: list[float] = field(default_factory=list)
    box_labels: Counter[int] = field(default_factory=Counter)
    pixels: Counter[int] = field(default_factory=Counter)
    masked: list[float] = field(default_factory=list)
    low: float = 1.0
    high: float = -1.0

    def add(self, sample: Sample, stored: tuple[int, int] | None = None) -> None:
        """Count a sample; one that replaces an unreadable one only counts as broken."""
        if "skipped" in sample:
            self.broken.append(sample["skipped"][0])
            return
        self.read += 1
        image = sample["image"]
        self.shapes[tuple(image.shape)] += 1
        self.low, self.high = min(self.low, float(image.min())), max(self.high, float(image.max()))
        if stored is not None:
            self.stored[stored] += 1
        if "label" in sample:
            self.labels[sample["label"]] += 1
        if "caption" in sample:
            self.captions[sample["caption"]] += 1
        if "boxes" in sample:
            self.boxes.append(len(sample["boxes"]))
            self.box_labels.update(sample["box_labels"].tolist())
            self.box_areas += ((sample["boxes"][:, 2:] - sample["boxes"][:, :2]).prod(1)).tolist()
        if "segmentation" in sample:
            values, counts = torch.unique(sample["segmentation"], return_counts=True)
            self.pixels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        if "mask" in sample:
            self.masked.append(float(sample["mask"].mean()))

    def classes(self, names: ClassNames) -> dict[str, list[tuple[int, str, int]]]:
        """Index, name ("-" without one) and count of all classes by key; of keys that the samples have, or of all if none was read."""
        found = {}
        for key, counts in {"label": self.labels, "boxes": self.box_labels, "segmentation": self.pixels}.items():
            known = dict(enumerate(names.get(key, ())))
            indices = {*known, *counts} - ({UNLABELLED} - known.keys() if key == "segmentation" else set())
            if counts or not self.read:
                found[key] = [(index, known.get(index, "-"), counts[index]) for index in sorted(indices)]
        return found

    def lines(self, names: ClassNames) -> list[str]:
        """As text, without the broken files."""
        found = [("image", f"{_sizes(self.shapes)}, values {self.low:.3g} to {self.high:.3g}")] if self.read else []
        if self.stored:
            shorter = [min(size) for size in self.stored.elements()]
            found += [("stored", f"{_sizes(self.stored)}; shorter side {min(shorter)} to {max(shorter)}")]
        if self.labels:
            found += [("label", f"{len(self.labels)} classes; {_frequent(self.labels, names, 'label')}")]
        if self.captions:
            words = [len(text.split()) for text in self.captions.elements()]
            often = ", ".join(f"{_short(text)!r} ({count})" for text, count in self.captions.most_common(3))
            found += [
                ("caption", f"{_span(words, 'words')}, {self.captions['']} empty, {len(self.captions)} different; most frequent: {often}")
            ]
        if self.boxes:
            small = f"; areas {_span([100 * area for area in self.box_areas], '%')}" if self.box_areas else ""
            found += [("boxes", f"{_span(self.boxes, 'per image')}{small}; {_frequent(self.box_labels, names, 'boxes')}")]
        if self.pixels:
            found += [("segmentation", _shares(self.pixels, names))]
        if self.masked:
            found += [("mask", _span([100 * share for share in self.masked], "% of the image"))]
        return [f"  {key:<14}{text}" for key, text in found]


def _span(values: Sequence[float], unit: str) -> str:
    return f"{min(values):.3g} to {max(values):.3g} {unit} (median {statistics.median(values):.3g})"


def _sizes(counts: Counter[Any]) -> str:
    most = counts.most_common(4)
    rest = f" and {len(counts) - len(most)} other sizes" if len(counts) > len(most) else ""
    return ", ".join(f"{'x'.join(map(str, size))} ({count})" for size, count in most) + rest


def _frequent(counts: Counter[int], names: ClassNames, key: str) -> str:
    if not counts:
        return "none"
    most = ", ".join(f"{class_name(names, key, index)} ({count})" for index, count in counts.most_common(SHOWN))
    least = min(counts.items(), key=lambda item: item[1])
    return f"most frequent: {most}; least: {class_name(names, key, least[0])} ({least[1]})"


def _shares(pixels: Counter[int], names: ClassNames) -> str:
    total = pixels.total()
    known = {index: count for index, count in pixels.items() if index != UNLABELLED}
    largest = sorted(known.items(), key=lambda item: -item[1])[:SHOWN]
    shown = ", ".join(f"{class_name(names, 'segmentation', index)} {100 * count / total:.1f} %" for index, count in largest)
    return f"{len(known)} classes: {shown or 'none'}; unlabelled {100 * pixels[UNLABELLED] / total:.1f} %"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
