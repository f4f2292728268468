"""The commands that train, sample and measure a row, and the files that they read."""

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
        words: of the command line, from the script on.
        record: file that a measuring command writes.
        names: printed name: name in the record.
        samples: how many a record has to be of; 0 where the conditions decide.
        needs: what it reads that no command of the row writes.
    """

    does: str
    words: tuple[str, ...]
    record: Path | None = None
    names: tuple[tuple[str, str], ...] = ()
    samples: int = 0
    needs: tuple[Need, ...] = ()

    def text(self) -> str:
        """As one types it."""
        return command(*self.words)


# What results are held against (names in sources.yaml; "train": the config's training images). A name with {data} has one entry
# per data set.
AGAINST = {
    "coco-images": "coco-images",
    "validation": "imagenet-val-256",
    "places": "places-whole",
    "places-val": "places-val-whole",
    "places-hard": "places-hard",
    "layout-images": "{data}-layout-images",
}


# A record's name: what scripts/evaluate.py calls the measure, where that is another word.
MEASURES = {"precision": "prec_recall_adm", "recall": "prec_recall_adm", "r-fid": "rfid"}
# The network of a measure, where that is not Inception: measures of one network share a command, so that where one's weights are
# missing the others still run.
NETWORKS = {"psnr": "pairs", "ssim": "pairs", "lpips": "vgg16", "psim": "vgg16"}
NATIVE = ("coco-images", "layout-images")  # references that may lie as they were fetched, of any size


def needs_to_measure(table: Table, row: Row, asked: OwnPaths) -> list[Need]:
    """What has to be there before a row can be sampled and measured."""
    steps = [command for command in commands(table, row, asked) if command.does != "train"]
    return list(dict.fromkeys(need for command in steps for need in command.needs))


def needs_to_sample(table: Table, row: Row, asked: OwnPaths, given: str) -> tuple[Need, ...]:
    """The models, and what they are given: `given` of sources.yaml, or images to reconstruct."""
    needs = [model_need(row.config, own_model(row, asked))]
    if row.classifier:
        needs.append(model_need(row.classifier, model_path(row.classifier, asked)))
    if row.sampling.get("guider") == "lpips":
        needs.append(source_need("data", "vgg16", str(lpips_weights())))
    if table.protocol_of(row).maker == "reconstruct":
        needs.append(source_need("data", "imagenet", config_path("imagenet", "imagenet256", asked)))
    return (*needs, *([source_need("conditions", given)] if given else []))


def given_to(table: Table, row: Row) -> str:
    """Name in sources.yaml of what a row's model is given; empty where it needs nothing."""
    return table.protocol_of(row).given.format(data=row.data.lower())


def _reference_needs(against: str, row: Row, asked: OwnPaths) -> list[Need]:
    if against == "originals":  # of the reconstructions: they are written beside them
        return []
    if against == "train" and not row.config.startswith("ldm/sr-"):
        paths = config_of(row.config, asked.overrides).data.get("paths") or {}
        return [source_need("data", key, path) for key, path in paths.items() if key not in ("first_stage", "start", "bert")]
    return [source_need("conditions", reference_name(against, row))]


def reference_name(against: str, row: Row) -> str:
    """Name in sources.yaml of the images that results are held against."""
    return "imagenet-train-256" if against == "train" else AGAINST[against].format(data=row.data.lower())


def commands(table: Table, row: Row, asked: OwnPaths) -> list[Command]:
    """Train, sample, measure: what turns a row into numbers. Figures sample and measure at each of their points."""
    found = [training(config, asked) for config in configs(row)]
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
                found.append(sampling(table, point, asked, samples, given))
                sampled.add(given)
            for network in dict.fromkeys(NETWORKS.get(name, "") for _, name in names):
                some = tuple(pair for pair in names if NETWORKS.get(pair[1], "") == network)
                found.append(measuring(table.protocol_of(row).samples, part, some, network, point, asked, samples))
    return found


def points(table: Table, row: Row) -> list[tuple[Row, str]]:
    """A row at every point of its figure, with the name of the point; of a table, the row alone."""
    if not table.points:
        return [(row, "")]
    return [(replace(row, sampling={**row.sampling, "steps": steps}), f"steps-{steps}") for steps in table.points["steps"]]


def training(name: str, asked: OwnPaths) -> Command:
    """Of a config's model."""
    paths = config_of(name, asked.overrides).data.get("paths") or {}
    words = [f"paths.{key}={path}" for key, path in paths.items() if path]
    return Command("train", ("main.py", "--base", f"configs/{name}.yaml", "--train", *words))


def sampling(table: Table, row: Row, asked: OwnPaths, folder: Path, source: str) -> Command:
    """Of a row's images into a folder, from what `source` names in sources.yaml; empty where the model is given nothing."""
    protocol, model, settings = table.protocol_of(row), str(own_model(row, asked)), row.sampling
    count, maker, needs = str(protocol.samples), protocol.maker, needs_to_sample(table, row, asked, source)
    shared = ["--outdir", str(folder), "--batch", str(asked.batch), "--device", asked.device]
    if maker == "reconstruct":
        data = config_path("imagenet", "imagenet256", asked)
        return Command("sample", ("scripts/reconstruct.py", model, f"{data}/val", "--n", count, "--resize", "256", *shared), needs=needs)
    shared = ["--steps", str(settings["steps"]), "--eta", f"{settings['eta']:g}", "--seed", "0", *shared]
    scale = ["--scale", f"{settings['scale']:g}"] if "scale" in settings else []
    given = str(source_need("conditions", source).path) if source else ""
    match maker:
        case "sample":
            guide = [
                "--classifier",
                str(model_path(row.classifier, asked)),
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
    count: int, part: dict[str, Any], names: tuple[tuple[str, str], ...], network: str, row: Row, asked: OwnPaths, samples: Path
) -> Command:
    """Of samples, against one reference with one network; the whole set has to be there, unless it is a part of the conditions."""
    record = samples.parent / f"record-{part['against']}{'-' if network else ''}{network}.json"
    metrics = ",".join(dict.fromkeys(MEASURES.get(name, name) for _, name in names))
    made = samples / "reconstructions" if part["against"] == "originals" else samples
    wanted = 0 if part.get("given") else count
    needs, extra = _reference_needs(part["against"], row, asked), ["--metrics", metrics]
    if network == "":
        weights = source_need("weights", "inception", asked.weights)
        needs, extra = [*needs, weights], [*extra, "--extractor", "inception", "--weights", str(weights.path)]
    elif network == "vgg16":
        needs.append(source_need("weights", "vgg16"))
    extra += [*(["--n", str(wanted)] if wanted else []), "--out", str(record)]
    words = ("scripts/evaluate.py", str(made), *reference_words(part["against"], row, samples, asked), *extra)
    return Command("measure", words, record, names, wanted, tuple(needs))


def reference_words(against: str, row: Row, folder: Path, asked: OwnPaths) -> list[str]:
    """What evaluate.py holds the samples against: a folder, or a config whose data it reads through its own crop and resize."""
    if against == "originals":
        return [str(folder / "originals")]
    if against == "train" and not row.config.startswith("ldm/sr-"):
        return [f"configs/{row.config}.yaml", *asked.overrides]
    resize = ["--resize", str(row.sampling.get("size", 256))] if against in NATIVE else []
    return [str(source_need("conditions", reference_name(against, row)).path), *resize]


def settings_text(row: Row) -> str:
    """A row's sampling, and which of it is not the table's."""
    if not row.sampling:
        return "none"
    text = ", ".join(
        f"{key.replace('_', ' ')} {value:g}" if isinstance(value, float | int) else f"{key} {value}" for key, value in _shown(row)
    )
    notes = [f"not stated: {', '.join(row.chosen)}"] if row.chosen else []
    notes += [f"the table prints {', '.join(f'{key} {value}' for key, value in row.printed.items())}"] if row.printed else []
    return f"DDIM, {text}" + (f" ({'; '.join(notes)})" if notes else "")


def _shown(row: Row) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in row.sampling.items() if not (key == "scale" and value == 1.0)]
