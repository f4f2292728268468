"""What is measured: samples, their reference, how, and the record that all measures share."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from ldm.errors import UserError
from ldm.evaluation.distances import Value
from ldm.evaluation.extractors import Extractor, load_extractor
from ldm.evaluation.features import Features, extract
from ldm.evaluation.paired import same_size
from ldm.evaluation.provenance import Provenance, how_made
from ldm.evaluation.record import Record
from ldm.evaluation.scan import Scan
from ldm.evaluation.weightfiles import FOLDER


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        extractor: whose features FID, KID and the like are over, a name of EXTRACTORS.
        weights: its file; without it, the published name in `folder`.
        folder: of weight files.
        devices: one process each.
        batch, workers: images at a time on a device, and processes that read for it.
        cache: folder of cached features; None disables the cache.
        few: accept too few images; records say so.
        groups: of samples, left out in turn for the spread of Frechet distances; 0 is none.
        splits: of the Inception Score.
        kid_subsets, kid_size: of KID.
        k: neighbours of precision and recall.
        captions: `metadata.jsonl` for the CLIP score; else the samples say.
        neighbours: nearest images that are shown of each sample.
        picture: where they are drawn.
    """

    extractor: str = "inception"
    weights: str | None = None
    folder: Path = FOLDER
    devices: Sequence[str] = ("cpu",)
    batch: int = 64
    workers: int = 0
    cache: Path | None = None
    few: bool = False
    groups: int = 10
    splits: int = 10
    kid_subsets: int = 100
    kid_size: int = 1000
    k: int = 3
    captions: Path | None = None
    neighbours: int = 10
    picture: Path | None = None


@dataclass
class Subject:
    """Samples, their reference, and what is known of both.

    Raises:
        UserError: samples with mixed settings; sizes that differ; the same images on both sides.
    """

    samples: Scan
    reference: Scan | None
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        self.made: Provenance = how_made(self.samples.settings, self.samples.names, self.samples.images.what)
        self.extractors: dict[str, Extractor] = {}
        self.known: dict[tuple[str, str], Features] = {}
        if self.reference is None:
            return
        same_size(self.samples, self.reference)
        if self.samples.fingerprint == self.reference.fingerprint:
            raise UserError(f"{self.reference.images.what} holds the very images of the samples: is it the reference?")

    def against(self) -> Scan:
        """The reference.

        Raises:
            UserError: there is none.
        """
        if self.reference is None:
            raise UserError("this measure compares samples with a reference: name one")
        return self.reference

    def extractor(self, name: str | None = None) -> Extractor:
        """By name; the chosen one without a name."""
        name = name or self.options.extractor
        if name not in self.extractors:
            given = self.options.weights if name == self.options.extractor else None
            self.extractors[name] = load_extractor(name, given, self.options.folder)
        return self.extractors[name]

    def features(self, scan: Scan, name: str | None = None) -> Features:
        """Of all images of a set, extracted once."""
        key = (scan.fingerprint, name or self.options.extractor)
        if key not in self.known:
            o = self.options
            self.known[key] = extract(scan, self.extractor(name), o.devices, o.batch, o.workers, o.cache)
        return self.known[key]

    def layers(self, name: str | None = None) -> tuple[Tensor, Tensor]:
        """Features for distances, of samples and of the reference."""
        reference, layer = self.against(), self.extractor(name).features
        return self.features(self.samples, name)[layer], self.features(reference, name)[layer]

    @cached_property
    def base(self) -> Record:
        """What all records of this subject share."""
        made, samples, reference = self.made, self.samples, self.reference
        notes = [f"{one.repeated} of the {len(one)} images of {one.images.what} repeat another" for one in self.sets if one.repeated]
        for one in self.sets:
            if one.left_out:
                notes.append(f"{len(one.left_out)} images of {one.images.what} are left out; the first: {one.left_out[0]}")
        record = Record(
            "",
            0.0,
            len(samples),
            samples_sha256=samples.fingerprint,
            seed=made.seed,
            checkpoint=made.checkpoint,
            training_step=made.training_step,
            sampler=made.sampler,
            steps=made.steps,
            eta=made.eta,
            scale=made.scale,
            sampling=dict(made.others),
            class_balance=made.class_balance,
            image_format=samples.images.format,
            image_size="{}x{}".format(*samples.size),
            notes=tuple(notes),
        )
        if reference is None:
            return record
        return replace(
            record,
            resize=reference.images.resize,
            crop=reference.images.crop,
            reference=reference.images.what,
            reference_images=len(reference),
            reference_sha256=reference.fingerprint,
        )

    @property
    def sets(self) -> list[Scan]:
        return [self.samples] + ([self.reference] if self.reference is not None else [])

    def record(self, title: str, value: Value, extractor: tuple[str, str, str] = ("", "", ""), *software: str) -> Record:
        """One record; `extractor` is its name, its resize and its hash."""
        versions = {name: version(name) for name in ("torch", *software)}
        return replace(
            self.base,
            metric=title,
            value=value.value,
            spread=value.spread,
            spread_is=value.spread_is,
            parameters=value.parameters,
            extractor=extractor[0],
            extractor_resize=extractor[1],
            extractor_sha256=extractor[2],
            software=versions,
        )


def told(extractor: Extractor) -> tuple[str, str, str]:
    """What a record says about an extractor."""
    return extractor.name, extractor.resize, extractor.sha256


def alone(record: Record) -> Record:
    """The record of a measure that looks at the samples only: a reference that was named beside it does not belong to it."""
    return replace(record, reference="", reference_images=0, reference_sha256="", resize="none", crop="none")


def exact(device: str) -> str:
    """A device that has float64."""
    return device if device.startswith(("cpu", "cuda")) else "cpu"
