"""The tasks of the paper as parts of a config: the data set, the conditioner, and the channels that it adds."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ldm.errors import UserError
from ldm.recipes.commented import Because
from ldm.recipes.plan import Plan
from ldm.recipes.survey import Survey

Node = dict[str, Any]
TOKENS = 256  # width of context tokens
FEW = 40  # images, of fewer none is held out
DEGRADED = 4  # factor of super-resolution
EXAMPLES = "logs/STAGE2/examples"  # conditions that a training writes at its end


@dataclass(frozen=True)
class Task:
    """What a task changes in an unconditional model.

    Attributes:
        train: node of the training set.
        keys: batch keys that the conditioner reads.
        conditioner: its node; None if unconditional.
        concat: channels that it concatenates to z_t.
        network: further arguments of the network.
        sampling: sampler settings.
        script: script that samples, and its arguments.
    """

    train: Node
    keys: frozenset[str] = frozenset()
    conditioner: Node | None = None
    concat: int = 0
    network: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    script: tuple[str, ...] = ("sample.py", "logs/STAGE2", "--n", "16")


def target(name: str, **params: Any) -> Node:
    """A node of this project."""
    return {"target": f"ldm.{name}", "params": params}


def images(found: Survey, plan: Plan, **more: Any) -> Node:
    """The data set of the images alone, with the crop and the flip."""
    common = {
        "size": plan.size[0] if plan.square else Because(list(plan.size), "height and width; the images are typically not square"),
        **({"resize": plan.resize, "crop": "random"} if plan.resize > min(plan.size) else {}),
        "flip": Because(0.0, "grey scans, letters and digits are not mirrored")
        if found.channels == 1
        else Because(0.5, "0: never mirrored"),
        **split(found),
    }
    if not found.bits:
        values = {} if found.values is None else {"values": Because(list(found.values), "mapped to -1 and 1: the range that was found")}
        return target("data.ArrayFolder", root="${paths.images}", channels=found.channels, **values, **common)
    kind: Node = {"channels": found.channels} if found.channels != 3 else {}
    kind |= {"channels": Because(4, "with transparency")} if found.channels == 4 else {}
    kind |= {"depth": Because(16, "bits of the files")} if found.bits == 16 else {}
    return target("data.ImageFolder", root="${paths.images}", **kind, **more, **common)


def split(found: Survey) -> dict[str, Any]:
    """Which images are trained on."""
    if found.validation is not None:
        return {}
    if found.count < FEW:
        return {"split": Because("all", "too few to hold some out; validation has the same")}
    return {"split": "train", "held_out": 0.1}


def annotated(found: Survey, plan: Plan, key: str) -> Node:
    """Images with a key of their metadata, or with a file of the folder beside."""
    common = images(found, plan)["params"]
    if key in found.beside:
        give = {"give": key} if key == "mask" else {}
        return target("data.PairedFolders", root=common.pop("root"), maps="${paths.maps}", **give, **common)
    return target("data.AnnotatedFolder", root=common.pop("root"), give=[key], **common)


def tokens(dropped: float = 0.1) -> Node:
    """Width and dropping of a condition given as tokens or a vector."""
    return {"width": TOKENS, "uncond_prob": Because(dropped, "share of conditions that are dropped, for guidance")}


def unconditional(found: Survey, plan: Plan) -> Task:
    """Images as in the folder."""
    return Task(images(found, plan))


def by_class(found: Survey, plan: Plan) -> Task:
    """A class per subfolder."""
    if not found.classes:
        raise UserError(f"{found.root}: no classes: they come from subfolders, one per class, and every image must be in one")
    conditioner = target("conditioning.ClassEmbedding", num_classes=Because(len(found.classes), "subfolders"), **tokens())
    script = ("sample.py", "logs/STAGE2", "--n", "16", "--classes", found.classes[0])
    train = images(found, plan, labels=True)
    return Task(train, frozenset({"label"}), conditioner, 0, {"context_channels": TOKENS}, {"scale": 2.0}, script)


def captions(found: Survey, plan: Plan) -> Task:
    """Captions through the paper's transformer."""
    if not found.captions:
        raise UserError(
            f"{found.root}: no captions: expected NAME.txt beside an image, or metadata.jsonl or metadata.csv with a column text"
        )
    learned = Because("data", "learned from the captions at the start, and kept in the run")
    pieces = target("conditioning.WordPieces", vocabulary=learned, size=4096)
    conditioner = target("conditioning.TextTransformer", tokenizer=pieces, length=48, depth=6, heads=4, **tokens())
    train = images(found, plan, captions=True)
    train["params"]["flip"] = Because(0.0, "captions may say left or right; 0.5 where they do not")
    prompt = [f"--prompt={found.caption}"] if found.caption.startswith("-") else ["--prompt", found.caption]
    script = ("txt2img.py", "logs/STAGE2", *prompt, "--n", "8")
    return Task(train, frozenset({"caption"}), conditioner, 0, {"context_channels": TOKENS}, {"scale": 3.0}, script)


def inpainting(found: Survey, plan: Plan) -> Task:
    """Masks of the folder, or random ones."""
    folded = plan.factor if plan.factor <= 8 else 1
    resized = {"fold": folded} if folded > 1 else {"factor": plan.factor} if plan.factor > 1 else {}
    parts = [
        target("conditioning.ConcatImage", key="masked_image", channels=plan.latent, encode=True, fill="mask"),
        target("conditioning.ConcatImage", key="mask", channels=1, signed=True, **resized),
    ]
    if "mask" in found.beside or found.lines.get("mask"):
        train = target("data.Inpainting", masks=Because("given", "those of the folder"), images=annotated(found, plan, "mask"))
    else:
        train = target("data.Inpainting", masks=Because("mixed", "random: thin, medium, thick"), images=images(found, plan))
    script = ("inpaint.py", "logs/STAGE2", "--indir", EXAMPLES)
    sampling = {"sampler": "ddim", "eta": 1.0}
    keys = frozenset({"masked_image", "mask"})
    return Task(train, keys, target("conditioning.Joint", parts=parts), plan.latent + folded**2, {}, sampling, script)


def superres(found: Survey, plan: Plan) -> Task:
    """Low-resolution images of the folder, or made from the images."""
    if "low_res" in found.beside:
        common = images(found, plan)["params"]
        flips = {key: common[key] for key in ("size", "flip", "split", "held_out", "channels", "depth") if key in common}
        train = target("data.PairedResolutions", root="${paths.images}", low="${paths.low}", **flips)
    else:
        how = Because("bicubic", "or bsr: blur, noise and JPEG artefacts of unknown strength")
        train = target("data.SuperResolution", factor=DEGRADED, degradation=how, images=images(found, plan))
    fold = max(1, plan.factor // DEGRADED)
    resized = {"fold": fold} if fold > 1 else {"enlarge": DEGRADED // plan.factor} if plan.factor < DEGRADED else {}
    conditioner = target("conditioning.ConcatImage", key="low_res", channels=found.channels, **resized)
    script = ("superres.py", "logs/STAGE2", f"{EXAMPLES}/low_res.png")
    return Task(train, frozenset({"low_res"}), conditioner, found.channels * fold**2, {}, {}, script)


def semantic(found: Survey, plan: Plan) -> Task:
    """Label maps."""
    if not ("segmentation" in found.beside or found.lines.get("segmentation")):
        raise UserError(f"{found.root}: no label maps: expected the folders images and labels, or metadata.jsonl with segmentation")
    number = found.numbers_of_classes.get("segmentation", 0) or "data"
    train = annotated(found, plan, "segmentation")
    key = {"classes": number} if "segmentation" in found.beside else {"classes": {"segmentation": number}}
    train["params"] |= key
    rescaler = target("conditioning.Rescaler", in_channels=number, out_channels=8, stages=int(math.log2(plan.factor)))
    shown = Because(number, "highest index that was found, and one more")
    conditioner = target("conditioning.LabelMap", num_classes=shown, rescaler=rescaler, uncond_prob=0.1)
    script = ("semantic.py", "logs/STAGE2", f"{EXAMPLES}/map.png")
    return Task(train, frozenset({"segmentation"}), conditioner, 8, {}, {"scale": 1.5}, script)


def layout(found: Survey, plan: Plan) -> Task:
    """Labelled boxes."""
    if not found.lines.get("boxes"):
        reason = found.broken_boxes or "expected metadata.jsonl with lines of file_name and boxes"
        raise UserError(f"{found.root}: no boxes: {reason}")
    most = Because(max(1, found.objects), "largest number of an image")
    vocabulary = Because(max(1025, found.numbers_of_classes.get("boxes", 0) + 1), "a grid of 32 points a side; more than the classes")
    boxes = target("conditioning.BoxTokenizer", max_objects=most, vocabulary=vocabulary, crop=False)
    conditioner = target("conditioning.LayoutTransformer", tokenizer=boxes, depth=4, heads=4, **tokens())
    script = ("layout2img.py", "logs/STAGE2", f"{EXAMPLES}/layout.json")
    keys = frozenset({"boxes", "box_labels"})
    return Task(annotated(found, plan, "boxes"), keys, conditioner, 0, {"context_channels": TOKENS}, {"scale": 2.0}, script)


def condition(found: Survey, plan: Plan, key: str) -> Task:
    """A numeric column of the metadata."""
    if key not in found.columns:
        known = f"; there are {', '.join(found.columns)}" if found.columns else ""
        raise UserError(f"--condition {key}: no such numeric column in metadata.jsonl or metadata.csv{known}")
    low, high = found.columns[key]
    span = {"low": Because(low, "smallest"), "high": Because(high, "and largest value that was found")}
    conditioner = target("conditioning.NumberVector", key=key, **span, **tokens())
    script = ("sample.py", "logs/STAGE2", "--n", "16", "--condition", f"{key}={(low + high) / 2:g}")
    return Task(annotated(found, plan, key), frozenset({key}), conditioner, 0, {"vector_channels": TOKENS}, {"scale": 2.0}, script)


TASKS: dict[str, Callable[[Survey, Plan], Task]] = {
    "unconditional": unconditional,
    "class": by_class,
    "captions": captions,
    "inpainting": inpainting,
    "superres": superres,
    "semantic": semantic,
    "layout": layout,
}


def suggested(found: Survey) -> str:
    """The task that a folder is made for."""
    if found.lines.get("boxes"):
        return "layout"
    for key, task in (("segmentation", "semantic"), ("mask", "inpainting"), ("low_res", "superres")):
        if key in found.beside or found.lines.get(key):
            return task
    return "captions" if found.captions else "class" if found.classes else "unconditional"
