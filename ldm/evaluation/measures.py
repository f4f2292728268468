"""Every measure by its name: what it needs, and the records it makes of two sets of images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.evaluation.answers import layout_agreement, map_agreement
from ldm.evaluation.captions import ClipScorer, captions_of, clip_score
from ldm.evaluation.distances import Value, frechet, inception_score, kernel_distance, precision_recall
from ldm.evaluation.extractor import perceptual_distance
from ldm.evaluation.extractors import Demo, Extractor, load_extractor
from ldm.evaluation.features import Features, extract
from ldm.evaluation.made import Made, how_made
from ldm.evaluation.nearest import draw_nearest, nearest
from ldm.evaluation.paired import over_pairs, pairs, psnr_of, same_size, ssim_of
from ldm.evaluation.record import Record
from ldm.evaluation.scan import Scan
from ldm.evaluation.weightfiles import CLIP, FOLDER, VGG16
from ldm.files import file_sha256
from ldm.first_stage.perceptual import LPIPS


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        extractor: whose features FID, KID and the like are over, a name of EXTRACTORS.
        weights: its file; without it, the published name in `folder`.
        folder: of weight files.
        devices: one process each.
        batch, workers: images at a time on a device, and processes that read for it.
        cache: folder of features; none without it.
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
    """Samples, what they are held against, and what is known of both.

    Raises:
        UserError: samples with mixed settings; sizes that differ; the same images on both sides.
    """

    samples: Scan
    reference: Scan | None
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        self.made: Made = how_made(self.samples.settings, self.samples.names, self.samples.images.what)
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
            raise UserError("this measure holds samples against a reference: name one")
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


def fid(s: Subject, name: str | None = None) -> list[Record]:
    """Frechet distance over the chosen features."""
    extractor = s.extractor(name)
    value = frechet(*s.layers(name), groups=s.options.groups, few=s.options.few)
    return [s.record(extractor.frechet, value, told(extractor), "torch-fidelity")]


def rfid(s: Subject) -> list[Record]:
    """The same between reconstructions and their originals, name by name."""
    pairs(s.samples, s.against())
    return [replace(record, metric=f"R-{record.metric}") for record in fid(s)]


def inception(s: Subject) -> list[Record]:
    """Inception Score; needs no reference."""
    extractor = s.extractor()
    if extractor.logits is None:
        raise UserError(f"is: {extractor.name} has no classes; the Inception Score is Inception's alone")
    value = inception_score(s.features(s.samples)[extractor.logits], s.options.splits, s.options.few)
    title = "IS" if extractor.frechet == "FID" else extractor.title("IS")
    return [alone(s.record(title, value, told(extractor), "torch-fidelity"))]


def alone(record: Record) -> Record:
    """The record of a measure that looks at the samples only: a reference that was named beside it does not belong to it."""
    return replace(record, reference="", reference_images=0, reference_sha256="", resize="none", crop="none")


def kid(s: Subject) -> list[Record]:
    """Kernel distance over the chosen features."""
    extractor = s.extractor()
    value = kernel_distance(*s.layers(), subsets=s.options.kid_subsets, size=s.options.kid_size)
    usual = "KID" if extractor.frechet == "FID" else extractor.title("KD")
    return [s.record(usual if usual != "KD" else f"KD-{extractor.name}", value, told(extractor), "torch-fidelity")]


def shares(s: Subject, name: str | None, variant: str) -> list[Record]:
    """Precision and recall over some features."""
    extractor = s.extractor(name)
    values = precision_recall(*s.layers(name), k=s.options.k, few=s.options.few, device=exact(s.options.devices[0]))
    titles = [f"{what}, {variant}" for what in ("precision", "recall")]
    return [s.record(title, value, told(extractor), "torch-fidelity") for title, value in zip(titles, values, strict=True)]


def prec_recall(s: Subject) -> list[Record]:
    """torch-fidelity's variant: VGG16 features. With the demo extractor, its features."""
    return shares(s, "demo", "demo features") if s.options.extractor == "demo" else shares(s, "vgg16", "torch-fidelity (VGG16)")


def prec_recall_adm(s: Subject) -> list[Record]:
    """The variant of ADM's script, which the paper uses: Inception features."""
    return shares(s, "inception", "ADM (Inception)")


def lpips(s: Subject, title: str = "LPIPS") -> list[Record]:
    """LPIPS over VGG16; with the demo extractor, a perceptual distance over its features."""
    reference, device = s.against(), s.options.devices[0]
    if s.options.extractor == "demo":
        demo = s.extractor("demo")
        assert isinstance(demo, Demo)
        value = over_pairs(s.samples, reference, lambda x, y: perceptual_distance(demo.net.cpu(), x.cpu(), y.cpu()))
        return [s.record("perceptual distance (demo features)", value, told(demo))]
    file = VGG16.find(s.options.weights if s.options.extractor == "vgg16" else None, s.options.folder)
    net = LPIPS(str(file)).to(device)
    value = over_pairs(s.samples, reference, torch.no_grad()(net), device)
    return [s.record(f"{title} (VGG16)", value, ("VGG16 with the heads of lpips 0.1", "none", file_sha256(file)), "lpips")]


def clip(s: Subject) -> list[Record]:
    """CLIP score of samples and their captions."""
    scorer = ClipScorer(CLIP.find(None, s.options.folder, "--weights-folder")).to(s.options.devices[0])
    value = clip_score(s.samples, captions_of(s.samples, s.options.captions), scorer)
    return [alone(s.record("CLIP score", value, (scorer.name, scorer.resize, scorer.sha256), "transformers"))]


def nearest_images(s: Subject) -> list[Record]:
    """Distance to the nearest image of the reference, and a picture of the nearest ones."""
    name = "demo" if s.options.extractor == "demo" else "vgg16"
    ours, theirs = s.layers(name)
    distances, indices = nearest(ours, theirs, min(s.options.neighbours, len(theirs)), device=exact(s.options.devices[0]))
    if s.options.picture is not None:
        draw_nearest(s.samples, s.against(), indices, s.options.picture)
    spread = float(distances[:, 0].std()) if len(distances) > 1 else None
    value = Value(float(distances[:, 0].mean()), spread, "standard deviation over samples")
    extractor = s.extractor(name)
    return [s.record(f"distance to the nearest image ({extractor.name})", value, told(extractor))]


def exact(device: str) -> str:
    """A device that has float64."""
    return device if device.startswith(("cpu", "cuda")) else "cpu"


def paired(title: str, measure: Callable[..., Value]) -> Callable[[Subject], list[Record]]:
    """A measure of pairs that needs no network."""
    return lambda s: [s.record(title, measure(s.samples, s.against(), s.options.devices[0]), ("", "", ""), "torchmetrics")]


METRICS: dict[str, Callable[[Subject], list[Record]]] = {
    "fid": fid,
    "rfid": rfid,
    "is": inception,
    "kid": kid,
    "prec_recall": prec_recall,
    "prec_recall_adm": prec_recall_adm,
    "fd_dinov2": lambda s: fid(s, "dinov2"),
    "psnr": paired("PSNR", psnr_of),
    "ssim": paired("SSIM", ssim_of),
    "lpips": lpips,
    "psim": lambda s: lpips(s, "PSIM: LPIPS"),
    "clip": clip,
    "nearest": nearest_images,
    "layout": lambda s: [alone(s.record(title, value)) for title, value in layout_agreement(s.samples)],
    "label_map": lambda s: [alone(s.record(title, value)) for title, value in map_agreement(s.samples)],
}
ALONE = ("is", "clip", "layout", "label_map")  # need no reference


def measure(subject: Subject, names: Sequence[str]) -> list[Record]:
    """All records of some measures.

    Raises:
        UserError: an unknown measure, or one that cannot be taken; MissingFile where weights are missing.
    """
    if unknown := [name for name in names if name not in METRICS]:
        raise UserError(f"measure {unknown[0]!r} is unknown; there are {', '.join(METRICS)}")
    return [record for name in names for record in METRICS[name](subject)]
