"""Samples, their reference and how to measure: what every measure is given, and the part of a record that all measures share."""

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
from ldm.evaluation.provenance import provenance_of
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
        groups: of samples, left out in turn for the spread of Frechet distances; 0 disables it.
        splits: of the Inception Score.
        kid_subsets, kid_size: of KID.
        k: neighbours of precision and recall.
        captions: `metadata.jsonl` for the CLIP score; None takes those stored in the samples.
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


@dataclass(frozen=True)
class Network:
    """What a record says about the network of a measure; empty for a measure without one."""

    name: str = ""
    resize: str = ""
    sha256: str = ""


@dataclass
class Context:
    """Samples, their reference, and the extractors and features that measures share.

    Raises:
        UserError: samples with mixed settings; sizes that differ; the same images on both sides.
    """

    samples: Scan
    reference: Scan | None
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        self.provenance = provenance_of(self.samples.settings, self.samples.names, self.samples.images.what)
        self.extractors: dict[str, Extractor] = {}
        self.cached: dict[tuple[str, str], Features] = {}
        if self.reference is None:
            return
        same_size(self.samples, self.reference)
        if self.samples.fingerprint == self.reference.fingerprint:
            raise UserError(f"{self.reference.images.what} holds the same images as the samples: is it the reference?")

    def required_reference(self) -> Scan:
        """The reference.

        Raises:
            UserError: there is none.
        """
        if self.reference is None:
            raise UserError("this measure compares samples with a reference: name one")
        return self.reference

    def extractor(self, name: str | None = None) -> Extractor:
        """By name; None is that of the options."""
        name = name or self.options.extractor
        if name not in self.extractors:
            given = self.options.weights if name == self.options.extractor else None
            self.extractors[name] = load_extractor(name, given, self.options.folder)
        return self.extractors[name]

    def features(self, scan: Scan, name: str | None = None) -> Features:
        """Of all images of a set, extracted once."""
        key = (scan.fingerprint, name or self.options.extractor)
        if key not in self.cached:
            o = self.options
            self.cached[key] = extract(scan, self.extractor(name), o.devices, o.batch, o.workers, o.cache)
        return self.cached[key]

    def both_features(self, name: str | None = None) -> tuple[Tensor, Tensor]:
        """Features for distances, of samples and of the reference."""
        reference, layer = self.required_reference(), self.extractor(name).features
        return self.features(self.samples, name)[layer], self.features(reference, name)[layer]

    @cached_property
    def base(self) -> Record:
        """What all records have in common."""
        sets = [self.samples] + ([] if self.reference is None else [self.reference])
        notes = [f"{one.repeated} of the {len(one)} images of {one.images.what} repeat another" for one in sets if one.repeated]
        notes += [
            f"{len(one.left_out)} images of {one.images.what} are left out; the first: {one.left_out[0]}" for one in sets if one.left_out
        ]
        record = Record(
            "",
            0.0,
            len(self.samples),
            samples_sha256=self.samples.fingerprint,
            image_format=self.samples.images.format,
            image_size="{}x{}".format(*self.samples.size),
            notes=tuple(notes),
            **self.provenance,
        )
        if self.reference is None:
            return record
        return replace(
            record,
            resize=self.reference.images.resize,
            crop=self.reference.images.crop,
            reference=self.reference.images.what,
            reference_images=len(self.reference),
            reference_sha256=self.reference.fingerprint,
        )

    def record(self, metric: str, value: Value, network: Extractor | Network = Network(), *software: str) -> Record:
        """The record of a measured value, over the features of `network` if any, computed by `software` beside torch."""
        return replace(
            self.base,
            metric=metric,
            value=value.value,
            spread=value.spread,
            spread_is=value.spread_is,
            parameters=value.parameters,
            extractor=network.name,
            extractor_resize=network.resize,
            extractor_sha256=network.sha256,
            software={name: version(name) for name in ("torch", *software)},
        )
