"""Every measure by its name: what it needs, and the records of it for two sets of images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ldm.errors import UserError
from ldm.evaluation.clip import ClipScorer, captions_of, clip_score
from ldm.evaluation.context import Context, Network
from ldm.evaluation.distances import frechet, inception_score, kernel_distance, mean_of, precision_recall
from ldm.evaluation.extractors import Demo
from ldm.evaluation.nearest import draw_nearest, nearest
from ldm.evaluation.paired import PairMeasure, over_pairs, pairs, psnr, ssim
from ldm.evaluation.record import Record
from ldm.evaluation.scene_conditions import layout_agreement, map_agreement
from ldm.evaluation.small_extractor import perceptual_distance
from ldm.evaluation.weightfiles import CLIP, OTHER, VGG16
from ldm.first_stage.perceptual import LPIPS
from ldm.system.files import file_sha256

SMALLEST = 16  # side of the images of LPIPS: VGG16 halves it four times


def fid(c: Context, name: str | None = None) -> list[Record]:
    """Frechet distance over the chosen features."""
    extractor = c.extractor(name)
    value = frechet(*c.both_features(name), groups=c.options.groups, few=c.options.few)
    return [c.record(extractor.frechet, value, extractor, "torch-fidelity", *extractor.software)]


def rfid(c: Context) -> list[Record]:
    """The same between reconstructions and their originals, name by name."""
    pairs(c.samples, c.required_reference())
    return [replace(record, metric=f"R-{record.metric}") for record in fid(c)]


def inception(c: Context) -> list[Record]:
    """Inception Score."""
    extractor = c.extractor()
    if extractor.logits is None:
        raise UserError(f"is: {extractor.name} has no classes; the Inception Score is Inception's alone")
    value = inception_score(c.features(c.samples)[extractor.logits], c.options.splits, c.options.few)
    title = "IS" if extractor.frechet == "FID" else extractor.title("IS")
    return [c.record(title, value, extractor, "torch-fidelity")]


def kid(c: Context) -> list[Record]:
    """Kernel distance over the chosen features."""
    extractor = c.extractor()
    value = kernel_distance(*c.both_features(), subsets=c.options.kid_subsets, size=c.options.kid_size)
    usual = "KID" if extractor.frechet == "FID" else extractor.title("KD")
    return [c.record(usual if usual != "KD" else f"KD-{extractor.name}", value, extractor, "torch-fidelity", *extractor.software)]


def precision_and_recall(c: Context, name: str, variant: str) -> list[Record]:
    """Precision and recall over some features."""
    extractor = c.extractor(name)
    values = precision_recall(*c.both_features(name), k=c.options.k, few=c.options.few, device=float64_device(c))
    titles = [f"{what}, {variant}" + ("" if extractor.genuine else f" {OTHER}") for what in ("precision", "recall")]
    return [c.record(title, value, extractor, "torch-fidelity") for title, value in zip(titles, values, strict=True)]


def prec_recall(c: Context) -> list[Record]:
    """torch-fidelity's variant: VGG16 features. With the demo extractor, its features."""
    name = vgg16_or_demo(c)
    return precision_and_recall(c, name, "demo features" if name == "demo" else "torch-fidelity (VGG16)")


def prec_recall_adm(c: Context) -> list[Record]:
    """The variant of ADM's script, which the paper uses: Inception features."""
    return precision_and_recall(c, "inception", "ADM (Inception)")


def vgg16_or_demo(c: Context) -> str:
    """The extractor that takes the place of the paper's VGG16."""
    return "demo" if c.options.extractor == "demo" else "vgg16"


def float64_device(c: Context) -> str:
    """The first device if it has float64, else the CPU."""
    device = c.options.devices[0]
    return device if device.startswith(("cpu", "cuda")) else "cpu"


def lpips(c: Context, title: str = "LPIPS") -> list[Record]:
    """LPIPS over VGG16; with the demo extractor, a perceptual distance over its features."""
    reference, device = c.required_reference(), c.options.devices[0]
    demo = lpips_network(c)
    if isinstance(demo, Demo):
        value = over_pairs(c.samples, reference, lambda x, y: perceptual_distance(demo.net.cpu(), x.cpu(), y.cpu()))
        return [c.record("perceptual distance (demo features)", value, demo)]
    if min(c.samples.size) < SMALLEST:
        raise UserError(f"{title} takes images of {SMALLEST} pixels and more, these are {c.samples.size[0]}x{c.samples.size[1]}")
    net, sha256 = LPIPS(str(demo)).to(device), file_sha256(demo)
    value = over_pairs(c.samples, reference, torch.no_grad()(net), device)
    network = "VGG16" if VGG16.genuine(sha256) else f"VGG16 {OTHER}"
    return [c.record(f"{title} ({network})", value, Network("VGG16 with the heads of lpips 0.1", "none", sha256), "lpips")]


def lpips_network(c: Context) -> Demo | Path:
    """The network of LPIPS: VGG16's file, or the demo extractor."""
    if c.options.extractor == "demo":
        demo = c.extractor("demo")
        assert isinstance(demo, Demo)
        return demo
    return VGG16.find(c.options.weights if c.options.extractor == "vgg16" else None, c.options.folder)


def clip_folder(c: Context) -> Path:
    """CLIP's model folder."""
    return CLIP.find(None, c.options.folder, "--weights-folder")


def clip(c: Context) -> list[Record]:
    """CLIP score of samples and their captions."""
    scorer = ClipScorer(clip_folder(c)).to(c.options.devices[0])
    value = clip_score(c.samples, captions_of(c.samples, c.options.captions), scorer)
    return [c.record("CLIP score", value, Network(scorer.name, scorer.resize, scorer.sha256), "transformers")]


def nearest_images(c: Context) -> list[Record]:
    """Distance to the nearest image of the reference, and a picture of the nearest ones."""
    extractor = c.extractor(vgg16_or_demo(c))
    ours, theirs = c.both_features(vgg16_or_demo(c))
    distances, indices = nearest(ours, theirs, min(c.options.neighbours, len(theirs)), device=float64_device(c))
    if c.options.picture is not None:
        draw_nearest(c.samples, c.required_reference(), indices, c.options.picture)
    return [c.record(f"distance to the nearest image ({extractor.name})", mean_of(distances[:, 0], over="samples"), extractor)]


def paired(c: Context, title: str, measure: PairMeasure) -> list[Record]:
    """A measure of pairs that needs no network."""
    value = over_pairs(c.samples, c.required_reference(), measure, c.options.devices[0])
    return [c.record(title, value, Network(), "torchmetrics")]


@dataclass(frozen=True)
class Measure:
    """How a measure is computed.

    Attributes:
        records: computes it.
        network: finds or loads the network that it needs.
        reference: whether it compares samples with a reference.
    """

    records: Callable[[Context], list[Record]]
    network: Callable[[Context], object] = lambda c: None
    reference: bool = True


METRICS = {
    "fid": Measure(fid, Context.extractor),
    "rfid": Measure(rfid, Context.extractor),
    "is": Measure(inception, Context.extractor, reference=False),
    "kid": Measure(kid, Context.extractor),
    "prec_recall": Measure(prec_recall, lambda c: c.extractor(vgg16_or_demo(c))),
    "prec_recall_adm": Measure(prec_recall_adm, lambda c: c.extractor("inception")),
    "fd_dinov2": Measure(lambda c: fid(c, "dinov2"), lambda c: c.extractor("dinov2")),
    "psnr": Measure(lambda c: paired(c, "PSNR", psnr)),
    "ssim": Measure(lambda c: paired(c, "SSIM", ssim)),
    "lpips": Measure(lpips, lpips_network),
    "psim": Measure(lambda c: lpips(c, "PSIM: LPIPS"), lpips_network),
    "clip": Measure(clip, clip_folder, reference=False),
    "nearest": Measure(nearest_images, lambda c: c.extractor(vgg16_or_demo(c))),
    "layout": Measure(lambda c: [c.record(*one) for one in layout_agreement(c.samples)], reference=False),
    "label_map": Measure(lambda c: [c.record(*one) for one in map_agreement(c.samples)], reference=False),
}


def measure(context: Context, names: Sequence[str], keep: Callable[[list[Record]], None] | None = None) -> list[Record]:
    """All records of some measures, each once: over the demo features, lpips and psim are the same measure.

    The networks of all measures are found before anything is measured.

    Args:
        context: samples, their reference and options.
        names: of METRICS.
        keep: called with all records so far after every measure, so that a later error loses none of them.

    Raises:
        UserError: a measure that these images do not allow; MissingFile where weights are missing.
    """
    measures = [METRICS[name] for name in dict.fromkeys(names)]
    for one in measures:
        one.network(context)
    found: dict[str, Record] = {}
    for one in measures:
        for record in one.records(context):
            if not one.reference:  # one that was given does not belong to it
                record = replace(record, reference="", reference_images=0, reference_sha256="", resize="none", crop="none")
            found.setdefault(record.metric, record)
        if keep is not None:
            keep(list(found.values()))
    return list(found.values())
