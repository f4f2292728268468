"""The model card: README.md with the metadata that the Hugging Face hub reads."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from ldm import __version__
from ldm.checkpoint.source import nodes_of
from ldm.config import AllowedTargets
from ldm.data.classes import NAMED, class_names
from ldm.evaluation.record import PROTOCOL, Record, given, shown
from ldm.first_stage.base import FirstStage
from ldm.model import LatentDiffusion

LICENSES = (  # names that the hub knows; others are "other" with a name of their own
    *("apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "openrail++", "unlicense", "wtfpl", "zlib"),
    *("bsd", "bsd-2-clause", "bsd-3-clause", "isc", "mpl-2.0", "epl-2.0", "eupl-1.1", "eupl-1.2", "artistic-2.0", "bsl-1.0", "postgresql"),
    *("cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0"),
    *("cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    *("gpl", "gpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "ms-pl", "odbl", "odc-by", "pddl", "unknown", "other"),
)
PIPELINES = {"caption": "text-to-image", "low_res": "image-to-image", "mask": "image-to-image", "segmentation": "image-to-image"}
READS = {  # what a condition is, and how it is given in Python
    "label": ("a class", "label=0"),
    "caption": ("a caption", 'prompt="..."'),
    "low_res": ("a picture of low resolution", "low_res=picture"),
    "mask": ("a mask of what to fill, 1 where it is filled", "mask=mask"),
    "image": ("the picture that is filled", "image=picture"),
    "segmentation": ("a map of classes", "segmentation=labels"),
    "boxes": ("boxes as fractions of the image: left, top, right, bottom", "boxes=boxes"),
    "box_labels": ("the class of each box", "box_labels=labels"),
}
TEMPLATE = """---
{front}---

# {name}
{description}
{picture}
## Use
With the package `ldm` {version} or newer:

```python
import ldm

{use}
```
{conditions}{diffusers}
## Model
{parts}

The weights are {weights} after {steps} steps; `config.yaml` is the whole config.

## Training
{recipe}

{again}

## Metrics
{metrics}

## License
{license}
"""


@dataclass(frozen=True)
class Card:
    """What a model card says.

    Attributes:
        name: of the model.
        model: as it loads from the published folder.
        config, recipe: of the weights' header, and `config.yaml`.
        step: training steps; -1 if unknown.
        images: what samples.png shows, None without it.
        records: of metrics.
        license: as the user wrote it.
        description: the same.
        averaged: whether the weights are an average.
        diffusers: whether there is a diffusers folder.
        refused: why there is none, None if it was not requested.
        notes: on it.
    """

    name: str
    model: LatentDiffusion | FirstStage
    config: Mapping[str, Any]
    recipe: Mapping[str, Any]
    step: int
    images: str | None
    records: Sequence[Record]
    license: str | None
    description: str | None
    averaged: bool
    diffusers: bool
    refused: str | None
    notes: Sequence[str] = field(default_factory=tuple)


def card(of: Card) -> str:
    """The text of README.md."""
    return TEMPLATE.format(
        front=yaml.safe_dump(front_matter(of), sort_keys=False, allow_unicode=True),
        name=of.name,
        description=f"\n{of.description or 'No description was given.'}\n",
        picture=f"\n![{of.images}](samples.png)\n\n*{of.images[0].upper()}{of.images[1:]}.*\n" if of.images else "",
        version=__version__,
        use=use(of),
        conditions=conditions(of.model, class_names(of.config)),
        diffusers=in_diffusers(of),
        parts=table(("part", "class", "parameters"), parts(of.model)),
        weights="an exponential moving average (EMA)" if of.averaged else "as they were trained",
        steps=of.step if of.step >= 0 else "an unknown number of",
        recipe=table(("", ""), recipe(of.recipe)),
        again=train_again(of.recipe),
        metrics=metrics(of.records),
        license=license_text(of.license),
    )


def front_matter(of: Card) -> dict[str, Any]:
    """The metadata between the lines `---`."""
    front: dict[str, Any] = license_field(of.license) | {"library_name": "ldm"}
    if isinstance(of.model, LatentDiffusion):
        reads = of.model.conditioner.reads
        tag = next((PIPELINES[key] for key in PIPELINES if key in reads), None)
        if tag is None and set(reads) <= {"label"}:
            tag = "unconditional-image-generation"
        front |= {"pipeline_tag": tag} if tag else {}
        return front | {"tags": ["latent-diffusion", *(["diffusers"] if of.diffusers else [])]}
    return front | {"tags": ["autoencoder", "latent-diffusion", *(["diffusers"] if of.diffusers else [])]}


def license_field(text: str | None) -> dict[str, str]:
    """The license as the hub wants it: one of its names, or "other" with a name."""
    if text is None:
        return {"license": "unknown"}
    if text.lower() in LICENSES:
        return {"license": text.lower()}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")[:60] or "other"}


def license_text(text: str | None) -> str:
    """The license in words."""
    return text or "Unknown: ask whoever published this model before you use it."


def use(of: Card) -> str:
    """How to load and call the model in Python."""
    trusted = packages(of.config)
    trust = "" if not trusted else f", trust={trusted[0]!r}" if len(trusted) == 1 else f", trust={trusted!r}"
    load = f'model = ldm.load("path/to/this/folder"{trust})'
    if trusted:
        load = f"# needs the package{'s' * (len(trusted) > 1)} {', '.join(trusted)}\n{load}"
    if isinstance(of.model, FirstStage):
        encode = "latents = model.encode(pictures)  # PIL images of one size, or a tensor (n, C, H, W) in [-1, 1]"
        return f"{load}\n{encode}\npictures = model.decode(latents)"
    names = class_names(of.config).get("label", [])
    example = {"label": f"label={names[0]!r}"} if names and names.count(names[0]) == 1 else {}
    given_as = [example.get(key, READS[key][1] if key in READS else f"{key}=...") for key in of.model.conditioner.reads]
    return f"{load}\nimages = model.sample({', '.join(['n=4', *given_as])})  # PIL images"


def packages(config: Mapping[str, Any]) -> list[str]:
    """Packages whose classes the model's config names, beside those that every config may name."""
    allowed = AllowedTargets()
    found: dict[str, None] = {}
    params = config["model"]["params"]
    targets = [node["target"] for node in nodes_of(params.get("model") or params.get("autoencoder")) if isinstance(node.get("target"), str)]
    sampler = (config.get("sampling") or {}).get("sampler")
    for target in [*targets, *([sampler] if isinstance(sampler, str) and "." in sampler else [])]:
        try:
            allowed.resolve(target)
        except ValueError:
            found[target.partition(".")[0]] = None
    return [name for name in found if name not in ("ldm", "torch")]


def conditions(model: LatentDiffusion | FirstStage, names: Mapping[str, Sequence[str]]) -> str:
    """What the model reads, as a list, and the names of its classes."""
    if isinstance(model, FirstStage) or not model.conditioner.reads:
        return ""
    lines, lists = [], []
    for key in model.conditioner.reads:
        entry = model.conditioner.keys[key]
        what = READS[key][0] if key in READS else f"a value of shape {list(entry.shape)}" if entry.shape else "a value"
        limits = f", {entry.low:g} to {entry.high:g}" if entry.low is not None and entry.high is not None else ""
        named = names.get(NAMED.get(key, key), [])
        lines.append(f"- `{'prompt' if key == 'caption' else key}`: {what}{limits}{', or its name' if key == 'label' and named else ''}")
        if named:
            rows = [(str(index), html.escape(name)) for index, name in enumerate(named)]
            lists.append(f"<details><summary>Names: <code>{key}</code></summary>\n\n{table(('', 'name'), rows)}\n\n</details>\n")
    return "\nIt reads\n\n" + "\n".join([*lines, "", *lists])


def in_diffusers(of: Card) -> str:
    """How diffusers loads the model, or why it does not."""
    if of.refused:
        return f"\nThere is no `diffusers/` folder: {of.refused}.\n"
    if not of.diffusers:
        return ""
    notes = "".join(f"\n- {note}" for note in of.notes)
    return "\n`diffusers/` has the same weights for the classes of diffusers." + (f"\n{notes}\n" if notes else "\n")


def parts(model: LatentDiffusion | FirstStage) -> list[tuple[str, str, str]]:
    """Parts with their classes and sizes."""
    if isinstance(model, FirstStage):
        return [("autoencoder", type(model).__name__, millions(model)), *latent(model)]
    named = {"first stage": model.first_stage, "network": model.network, "conditioner": model.conditioner}
    rows = [(name, type(part).__name__, millions(part)) for name, part in named.items()]
    return [*rows, ("process", type(model.process).__name__, ""), *latent(model.first_stage)]


def latent(stage: FirstStage) -> list[tuple[str, str, str]]:
    """Size of the latents."""
    return [("latents", f"{stage.channels} channels, 1/{stage.factor} of the height and width", "")]


def millions(part: Any) -> str:
    """ "0.63 M", or all digits of a small number."""
    count = sum(p.numel() for p in part.parameters())
    return f"{count / 1e6:.2f} M" if count >= 1e5 else str(count)


def recipe(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How it was trained, in rows."""
    data = (config.get("data") or {}).get("params") or {}
    model = (config.get("model") or {}).get("params") or {}
    limits = (config.get("trainer") or {}).get("params") or {}
    optimizer = model.get("optimizer") or {}
    rows = {
        "data": described(data.get("train")),
        "batch size": data.get("batch_size"),
        "steps": limits.get("steps"),
        "optimizer": described(optimizer),
        "EMA decay": model.get("ema_decay"),
        "precision": limits.get("precision"),
        "fine-tuned from other weights": "yes" if model.get("start") else None,
        "seed": config.get("seed"),
        "sampling": ", ".join(f"{key} {value}" for key, value in (config.get("sampling") or {}).items()) or None,
    }
    return [(name, str(value)) for name, value in rows.items() if value not in (None, "")]


def described(node: Any) -> str | None:
    """A node as "Class(key=value, ...)", without what names files."""
    if not isinstance(node, dict) or "target" not in node:
        return None
    told = []
    for key, value in (node.get("params") or {}).items():
        text = described(value) if isinstance(value, dict) else str(value)
        if text and not text.startswith(("path/to/", "${")):
            told.append(f"{key}={text}")
    return f"{str(node['target']).rpartition('.')[2]}({', '.join(told)})"


def train_again(config: Mapping[str, Any]) -> str:
    """The command that trains by this config."""
    named = [key for key, value in (config.get("paths") or {}).items() if isinstance(value, str)]
    words = [f"paths.{key}={'path/to/this/folder' if key == 'first_stage' else 'DIR'}" for key in named]
    inside = ", with the first stage that is inside these weights" if "first_stage" in named else ""
    return f"To train it again{inside}:\n\n```bash\nldm train --base config.yaml --train {' '.join(words)}".rstrip() + "\n```"


def metrics(records: Sequence[Record]) -> str:
    """Values, and how each was measured."""
    if not records:
        return "None were measured."
    rows = [
        (
            record.metric,
            f"{record.value:.6g}" + (f" ± {record.spread:.3g}" if record.spread is not None else ""),
            str(record.samples),
            step(record),
        )
        for record in records
    ]
    said = dict.fromkeys(f"- {record.metric}: {protocol(record)}" for record in records)
    return "\n".join(
        [
            table(("metric", "value", "samples", "after step"), rows),
            "",
            "How they were measured (`metrics.json` has every detail):",
            "",
            *said,
        ]
    )


def step(record: Record) -> str:
    """The training step of the weights that made the samples."""
    return "?" if record.training_step is None else str(record.training_step)


def protocol(record: Record) -> str:
    """How a number was measured, in a sentence."""
    said = [f"{record.samples} samples" + (f" of {record.image_size}" if record.image_size else "")]
    if record.sampler:
        more = [f"{record.steps} steps", f"scale {record.scale:g}" if record.scale is not None else ""]
        said.append(", ".join(word for word in (f"made with {record.sampler}", *more) if word))
    if record.class_balance:
        said.append(record.class_balance)
    if record.reference_images:
        said.append(f"compared with {record.reference_images} images ({record.reference or 'reference'})")
    told = {"metric", "samples", "sampler", "steps", "scale", "class_balance", "image_size", "reference_images", "software", "sampling"}
    names = [name for name in PROTOCOL if name not in told and given(record, name) and getattr(record, name) != "none"]
    said += [f"{name.replace('_', ' ')} {shown(getattr(record, name))}" for name in names]
    said.append(f"software {shown(record.software)}" if record.software else "")
    return "; ".join(word for word in [*said, *record.notes] if word) + "."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in lines)
