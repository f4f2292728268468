"""Every measure by its name: what it needs, and the records it makes of two sets of images."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ldm.errors import UserError
from ldm.evaluation.answers import layout_agreement, map_agreement
from ldm.evaluation.captions import ClipScorer, captions_of, clip_score
from ldm.evaluation.comparison import Subject, alone, exact, told
from ldm.evaluation.distances import Value, frechet, inception_score, kernel_distance, precision_recall
from ldm.evaluation.extractor import perceptual_distance
from ldm.evaluation.extractors import Demo
from ldm.evaluation.nearest import draw_nearest, nearest
from ldm.evaluation.paired import over_pairs, pairs, psnr_of, ssim_of
from ldm.evaluation.record import Record
from ldm.evaluation.weightfiles import CLIP, OTHER, VGG16
from ldm.first_stage.perceptual import LPIPS
from ldm.system.files import file_sha256

SMALLEST = 16  # side of the images of LPIPS: VGG16 halves it four times


def fid(s: Subject, name: str | None = None) -> list[Record]:
    """Frechet distance over the chosen features."""
    extractor = s.extractor(name)
    value = frechet(*s.layers(name), groups=s.options.groups, few=s.options.few)
    return [s.record(extractor.frechet, value, told(extractor), "torch-fidelity", *extractor.software)]


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


def kid(s: Subject) -> list[Record]:
    """Kernel distance over the chosen features."""
    extractor = s.extractor()
    value = kernel_distance(*s.layers(), subsets=s.options.kid_subsets, size=s.options.kid_size)
    usual = "KID" if extractor.frechet == "FID" else extractor.title("KD")
    return [s.record(usual if usual != "KD" else f"KD-{extractor.name}", value, told(extractor), "torch-fidelity", *extractor.software)]


def shares(s: Subject, name: str | None, variant: str) -> list[Record]:
    """Precision and recall over some features."""
    extractor = s.extractor(name)
    values = precision_recall(*s.layers(name), k=s.options.k, few=s.options.few, device=exact(s.options.devices[0]))
    titles = [f"{what}, {variant}" + ("" if extractor.genuine else f" {OTHER}") for what in ("precision", "recall")]
    return [s.record(title, value, told(extractor), "torch-fidelity") for title, value in zip(titles, values, strict=True)]


def prec_recall(s: Subject) -> list[Record]:
    """torch-fidelity's variant: VGG16 features. With the demo extractor, its features."""
    return shares(s, name := vgg16_or_demo(s), "demo features" if name == "demo" else "torch-fidelity (VGG16)")


def vgg16_or_demo(s: Subject) -> str:
    """Whose features serve where the paper has VGG16's."""
    return "demo" if s.options.extractor == "demo" else "vgg16"


def prec_recall_adm(s: Subject) -> list[Record]:
    """The variant of ADM's script, which the paper uses: Inception features."""
    return shares(s, "inception", "ADM (Inception)")


def lpips(s: Subject, title: str = "LPIPS") -> list[Record]:
    """LPIPS over VGG16; with the demo extractor, a perceptual distance over its features."""
    reference, device = s.against(), s.options.devices[0]
    demo = net_of_pairs(s)
    if isinstance(demo, Demo):
        value = over_pairs(s.samples, reference, lambda x, y: perceptual_distance(demo.net.cpu(), x.cpu(), y.cpu()))
        return [s.record("perceptual distance (demo features)", value, told(demo))]
    if min(s.samples.size) < SMALLEST:
        raise UserError(f"{title} takes images of {SMALLEST} pixels and more, these are {s.samples.size[0]}x{s.samples.size[1]}")
    net, sha256 = LPIPS(str(demo)).to(device), file_sha256(demo)
    value = over_pairs(s.samples, reference, torch.no_grad()(net), device)
    network = "VGG16" if VGG16.genuine(sha256) else f"VGG16 {OTHER}"
    return [s.record(f"{title} ({network})", value, ("VGG16 with the heads of lpips 0.1", "none", sha256), "lpips")]


def net_of_pairs(s: Subject) -> Demo | Path:
    """The network that LPIPS is over: VGG16's file, or the demo extractor."""
    if s.options.extractor == "demo":
        demo = s.extractor("demo")
        assert isinstance(demo, Demo)
        return demo
    return VGG16.find(s.options.weights if s.options.extractor == "vgg16" else None, s.options.folder)


def clip_folder(s: Subject) -> Path:
    """Where CLIP lies."""
    return CLIP.find(None, s.options.folder, "--weights-folder")


def clip(s: Subject) -> list[Record]:
    """CLIP score of samples and their captions."""
    scorer = ClipScorer(clip_folder(s)).to(s.options.devices[0])
    value = clip_score(s.samples, captions_of(s.samples, s.options.captions), scorer)
    return [alone(s.record("CLIP score", value, (scorer.name, scorer.resize, scorer.sha256), "transformers"))]


def nearest_images(s: Subject) -> list[Record]:
    """Distance to the nearest image of the reference, and a picture of the nearest ones."""
    name = vgg16_or_demo(s)
    ours, theirs = s.layers(name)
    distances, indices = nearest(ours, theirs, min(s.options.neighbours, len(theirs)), device=exact(s.options.devices[0]))
    if s.options.picture is not None:
        draw_nearest(s.samples, s.against(), indices, s.options.picture)
    spread = float(distances[:, 0].std()) if len(distances) > 1 else None
    value = Value(float(distances[:, 0].mean()), spread, "standard deviation over samples")
    extractor = s.extractor(name)
    return [s.record(f"distance to the nearest image ({extractor.name})", value, told(extractor))]


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
NETWORKS: dict[str, Callable[[Subject], object]] = {
    **dict.fromkeys(("fid", "rfid", "is", "kid"), Subject.extractor),
    **dict.fromkeys(("prec_recall", "nearest"), lambda s: s.extractor(vgg16_or_demo(s))),
    **dict.fromkeys(("lpips", "psim"), net_of_pairs),
    "prec_recall_adm": lambda s: s.extractor("inception"),
    "fd_dinov2": lambda s: s.extractor("dinov2"),
    "clip": clip_folder,
}


def measure(subject: Subject, names: Sequence[str], keep: Callable[[list[Record]], None] | None = None) -> list[Record]:
    """All records of some measures, each once: two names may mean one measure, as lpips and psim over the demo features do.

    The networks of all measures are looked for before anything is measured.

    Args:
        subject: samples and their reference.
        names: of METRICS.
        keep: called with all records there are, after every measure: what fails later takes nothing away.

    Raises:
        UserError: an unknown measure, or one that cannot be taken; MissingFile where weights are missing.
    """
    if unknown := [name for name in names if name not in METRICS]:
        raise UserError(f"measure {unknown[0]!r} is unknown; there are {', '.join(METRICS)}")
    for name in dict.fromkeys(names):
        if name in NETWORKS:
            NETWORKS[name](subject)
    found: dict[str, Record] = {}
    for name in dict.fromkeys(names):
        for record in METRICS[name](subject):
            found.setdefault(record.metric, record)
        if keep is not None:
            keep(list(found.values()))
    return list(found.values())
