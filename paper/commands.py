"""Commands that train, sample and measure a row, and the files that they read."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ldm.errors import UserError
from ldm.system.shell import command
from paper.needs import (
    Need,
    OwnPaths,
    config_path,
    configs,
    lpips_weights,
    model_need,
    model_path,
    own_model,
    source_need,
)
from paper.sizes import config_of
from paper.tables import Row, Table

OUTPUTS = Path("outputs/reproduce")


@dataclass(frozen=True)
class Command:
    """One step of a row.

    Attributes:
        does: "train", "sample" or "measure".
        words: of the command line, beginning with the script.
        record: file that a measuring command writes.
        names: (printed name, name in the record).
        samples: number of samples of the record; 0 if the conditions decide.
        needs: files it reads that no command of the row writes.
    """

    does: str
    words: tuple[str, ...]
    record: Path | None = None
    names: tuple[tuple[str, str], ...] = ()
    samples: int = 0
    needs: tuple[Need, ...] = ()

    def text(self) -> str:
        """As typed in a shell."""
        return command(*self.words)


# References (names in sources.yaml; "train": the config's training images). A name with {data} has one entry per data set.
REFERENCES = {
    "coco-images": "coco-images",
    "validation": "imagenet-val-256",
    "places": "places-whole",
    "places-val": "places-val-whole",
    "places-hard": "places-hard",
    "layout-images": "{data}-layout-images",
}
# Names of scripts/evaluate.py for metrics that have another name in a record.
MEASURES = {"precision": "prec_recall_adm", "recall": "prec_recall_adm", "r-fid": "rfid"}
# Networks of metrics other than Inception: metrics of one network share a command, so that the others still run if its weights are
# missing.
NETWORKS = {"psnr": "pairs", "ssim": "pairs", "lpips": "vgg16", "psim": "vgg16"}
NATIVE = ("coco-images", "layout-images")  # references that may have any size


def needs_to_measure(table: Table, row: Row, own: OwnPaths) -> list[Need]:
    """Files that are needed to sample and measure a row."""
    steps = [command for command in commands(table, row, own) if command.does != "train"]
    return list(dict.fromkeys(need for command in steps for need in command.needs))


def needs_to_sample(table: Table, row: Row, own: OwnPaths, given: str) -> tuple[Need, ...]:
    """Models and their conditions: `given` of sources.yaml, or images to reconstruct."""
    needs = [model_need(row.config, own_model(row, own))]
    if row.classifier:
        needs.append(model_need(row.classifier, model_path(row.classifier, own)))
    if row.sampling.get("guider") == "lpips":
        needs.append(source_need("data", "vgg16", str(lpips_weights())))
    if table.protocol_of(row).maker == "reconstruct":
        needs.append(source_need("data", "imagenet", config_path("imagenet", "imagenet256", own)))
    return (*needs, *([source_need("conditions", given)] if given else []))


def given_to(table: Table, row: Row) -> str:
    """Name in sources.yaml of the conditions of a row's model; empty if it has none."""
    return table.protocol_of(row).given.format(data=row.data.lower())


def _reference_needs(reference: str, row: Row, own: OwnPaths) -> list[Need]:
    if reference == "originals":  # written by scripts/reconstruct.py
        return []
    if reference == "train" and not row.config.startswith("ldm/sr-"):
        paths = config_of(row.config, own.overrides).data.get("paths") or {}
        return [source_need("data", key, path) for key, path in paths.items() if key not in ("first_stage", "start", "bert")]
    return [source_need("conditions", reference_name(reference, row))]


def reference_name(reference: str, row: Row) -> str:
    """Name in sources.yaml of the reference images."""
    return "imagenet-train-256" if reference == "train" else REFERENCES[reference].format(data=row.data.lower())


def commands(table: Table, row: Row, own: OwnPaths) -> list[Command]:
    """Commands that train, sample and measure a row; for a figure, sample and measure each of its points."""
    found = [training(config, own) for config in configs(row)]
    if not table.protocol_of(row).samples:
        return found
    folder = OUTPUTS / table.number.replace(" ", "-") / row.row
    for point, name in points(table, row):
        sampled: set[str] = set()
        for part in table.protocol_of(row).measure:
            names = [(printed, name) for printed, name in part["names"].items() if printed in row.paper or not row.paper]
            given = part.get("given") or given_to(table, row)
            samples = folder / name / ("samples" if given == given_to(table, row) else f"samples-{given}")
            if names and given not in sampled:
                found.append(sampling(table, point, own, samples, given))
                sampled.add(given)
            for network in dict.fromkeys(NETWORKS.get(name, "") for _, name in names):
                some = tuple(pair for pair in names if NETWORKS.get(pair[1], "") == network)
                found.append(measuring(table.protocol_of(row).samples, part, some, network, point, own, samples))
    return found


def points(table: Table, row: Row) -> list[tuple[Row, str]]:
    """A row at every point of a figure, with the point's name; for a table, only the row."""
    if not table.points:
        return [(row, "")]
    return [(replace(row, sampling={**row.sampling, "steps": steps}), f"steps-{steps}") for steps in table.points["steps"]]


def training(name: str, own: OwnPaths) -> Command:
    """Train a config's model."""
    paths = config_of(name, own.overrides).data.get("paths") or {}
    words = [f"paths.{key}={path}" for key, path in paths.items() if path]
    return Command("train", ("main.py", "--base", f"configs/{name}.yaml", "--train", *words))


def sampling(table: Table, row: Row, own: OwnPaths, folder: Path, source: str) -> Command:
    """Sample a row's images into a folder, with the conditions `source` of sources.yaml; empty if there are none."""
    protocol, model, settings = table.protocol_of(row), str(own_model(row, own)), row.sampling
    count, maker, needs = str(protocol.samples), protocol.maker, needs_to_sample(table, row, own, source)
    shared = ["--outdir", str(folder), "--batch", str(own.batch), "--device", own.device]
    if maker == "reconstruct":
        data = config_path("imagenet", "imagenet256", own)
        return Command("sample", ("scripts/reconstruct.py", model, f"{data}/val", "--n", count, "--resize", "256", *shared), needs=needs)
    shared = ["--steps", str(settings["steps"]), "--eta", f"{settings['eta']:g}", "--seed", "0", *shared]
    scale = ["--scale", f"{settings['scale']:g}"] if "scale" in settings else []
    given = str(source_need("conditions", source).path) if source else ""
    match maker:
        case "sample":
            guide = [
                "--classifier",
                str(model_path(row.classifier, own)),
                "--classifier-scale",
                str(settings.get("classifier_scale")),
            ]
            classes = ["--classes", "balanced"] if row.data == "ImageNet" else []
            words = ["scripts/sample.py", model, "--n", count, *classes, *(guide if row.classifier else [])]
        case "captions":
            words = ["scripts/sample.py", model, "--from-file", given, "--n", count]
        case "layouts":
            size = ["--height", str(settings["size"]), "--width", str(settings["size"])] if "size" in settings else []
            words = ["scripts/layout2img.py", model, given, "--n", "1", *size]
        case "superres":
            guide = ["--guider", str(settings.get("guider")), "--guide-scale", f"{settings.get('guide_scale', 0.0):g}"]
            words = ["scripts/superres.py", model, given, "--n", "1", "--whole", *(guide if "guider" in settings else [])]
        case "inpaint":
            words = ["scripts/inpaint.py", model, "--indir", given, "--n", "1", "--whole"]
        case _:
            raise UserError(f"{table.number}: nothing to sample")
    return Command("sample", (*words, *scale, *shared), needs=needs)


def measuring(
    count: int, part: dict[str, Any], names: tuple[tuple[str, str], ...], network: str, row: Row, own: OwnPaths, samples: Path
) -> Command:
    """Measure samples with one reference and one network; `count` samples are needed, unless only part of the conditions is sampled."""
    record = samples.parent / f"record-{part['reference']}{'-' if network else ''}{network}.json"
    metrics = ",".join(dict.fromkeys(MEASURES.get(name, name) for _, name in names))
    made = samples / "reconstructions" if part["reference"] == "originals" else samples
    wanted = 0 if part.get("given") else count
    needs, extra = _reference_needs(part["reference"], row, own), ["--metrics", metrics]
    if network == "":
        weights = source_need("weights", "inception", own.weights)
        needs, extra = [*needs, weights], [*extra, "--extractor", "inception", "--weights", str(weights.path)]
    elif network == "vgg16":
        needs.append(source_need("weights", "vgg16"))
    extra += [*(["--n", str(wanted)] if wanted else []), "--out", str(record)]
    words = ("scripts/evaluate.py", str(made), *reference_words(part["reference"], row, samples, own), *extra)
    return Command("measure", words, record, names, wanted, tuple(needs))


def reference_words(reference: str, row: Row, folder: Path, own: OwnPaths) -> list[str]:
    """The reference for evaluate.py: a folder, or a config whose data are read with its crop and resize."""
    if reference == "originals":
        return [str(folder / "originals")]
    if reference == "train" and not row.config.startswith("ldm/sr-"):
        return [f"configs/{row.config}.yaml", *own.overrides]
    resize = ["--resize", str(row.sampling.get("size", 256))] if reference in NATIVE else []
    return [str(source_need("conditions", reference_name(reference, row)).path), *resize]


def settings_text(row: Row) -> str:
    """A row's sampling settings, and which of them the table does not state."""
    if not row.sampling:
        return "none"
    shown = {key.replace("_", " "): value for key, value in row.sampling.items() if not (key == "scale" and value == 1.0)}
    text = ", ".join(f"{key} {value:g}" if isinstance(value, float | int) else f"{key} {value}" for key, value in shown.items())
    notes = [f"not stated: {', '.join(row.chosen)}"] if row.chosen else []
    notes += [f"the table prints {', '.join(f'{key} {value}' for key, value in row.printed.items())}"] if row.printed else []
    return f"DDIM, {text}" + (f" ({'; '.join(notes)})" if notes else "")
