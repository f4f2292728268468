"""From the flags of scripts/evaluate.py to sets of images and options."""

import argparse
from pathlib import Path
from typing import Any

from ldm.config import AllowedTargets
from ldm.errors import MissingFile, UserError
from ldm.evaluation.context import Options
from ldm.evaluation.images import DataOfConfig, EvaluationSet, FolderSet, Prepare
from ldm.evaluation.measures import METRICS
from ldm.evaluation.npz import NpzSet
from ldm.evaluation.scan import Scan
from ldm.system.device import pick_devices
from ldm.system.shipped import config_file

DRAWN = ("images", "examples")  # folders in a run folder


def wanted(flags: argparse.Namespace) -> list[str]:
    """The measures of `--metrics`.

    Raises:
        UserError: an unknown one, one whose reference is missing, a flag out of its range, or a folder as --out.
    """
    names = [name.strip() for name in flags.metrics.split(",") if name.strip()]
    if unknown := [name for name in names if name not in METRICS]:
        raise UserError(f"--metrics {unknown[0]!r} is unknown; there are {', '.join(METRICS)}")
    if not names:
        raise UserError(f"--metrics is empty; there are {', '.join(METRICS)}")
    if flags.reference is None and (missing := [name for name in names if METRICS[name].reference]):
        raise UserError(f"{missing[0]} compares samples with a reference: name a folder, an .npz or a config behind the samples")
    if Path(flags.out).is_dir():  # before anything is measured
        raise UserError(f"--out {flags.out}: a folder; expected the name of a file")
    return names


def options_from_flags(flags: argparse.Namespace) -> Options:
    """How to measure."""
    return Options(
        extractor=flags.extractor,
        weights=flags.weights,
        folder=Path(flags.weights_folder),
        devices=list(map(str, pick_devices(flags.device))),
        batch=flags.batch,
        workers=flags.workers,
        cache=Path(flags.cache) if flags.cache else None,
        few=flags.allow_few,
        groups=flags.groups,
        splits=flags.splits,
        kid_subsets=flags.kid_subsets,
        kid_size=flags.kid_size,
        k=flags.k,
        captions=Path(flags.captions) if flags.captions else None,
        neighbours=flags.neighbours,
        picture=Path(flags.out).with_name(f"{Path(flags.out).stem}-nearest.png"),
    )


def open_images(path: str, flags: argparse.Namespace, prepare: Prepare, what: str) -> EvaluationSet:
    """A folder, an .npz or the data set of a config.

    Raises:
        MissingFile: it does not exist.
        UserError: it is something else.
    """
    place = config_file(Path(path))
    if is_run(place) or (place.name in DRAWN and is_run(place.parent)):
        place = of_run(place, flags, what)
        path = str(place)
    if what == "REFERENCE" and flags.overrides and place.suffix not in (".yaml", ".yml"):
        raise UserError(f"{flags.overrides[0]!r} would change a config, and {path} is none; several measures are --metrics a,b")
    if place.is_dir():
        return FolderSet(place, prepare)
    if not place.is_file():
        raise MissingFile(f"{what} {path}: no such folder, .npz or config")
    if place.suffix == ".npz":
        if prepare.size is not None:
            raise UserError(f"--resize: the images of {path} are already resized")
        return NpzSet(place)
    if place.suffix in (".yaml", ".yml") and what == "REFERENCE":
        if prepare.size is not None:
            raise UserError(f"--resize: {path} defines how its images are resized: change it there")
        return of_config(path, flags)
    expected = "a folder, an .npz or a config" if what == "REFERENCE" else "a folder or an .npz"
    raise UserError(f"{what} {path}: expected {expected}")


def is_run(folder: Path) -> bool:
    """Whether it is a run folder of `main.py`."""
    return (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir()


def of_run(place: Path, flags: argparse.Namespace, what: str) -> Path:
    """The config of a run folder, whose data is the reference; the pictures of a run are grids, which cannot be measured.

    Raises:
        UserError: a run as samples, its pictures, or an override without effect on a resolved config.
    """
    if what != "REFERENCE":
        raise UserError(
            f"{what} {place}: pictures of a run are grids: sample from it first (scripts/sample.py), and measure what comes out"
        )
    if not is_run(place):
        raise UserError(f"{what} {place}: pictures of a run are grids: name {place.parent} itself for the data of its config")
    if wrong := [word for word in flags.overrides if not word.startswith("data.")]:
        raise UserError(f"{wrong[0]!r}: the config of a run is resolved, so that only data.params... changes its data")
    return place / "config.yaml"


def of_config(path: str, flags: argparse.Namespace) -> DataOfConfig:
    """The data set of a config, as its model is trained on it.

    Raises:
        UserError: the config is wrong or has no such split.
    """
    from ldm.cli.data import open_data  # imports Lightning

    data, node = open_data([path], flags.overrides, AllowedTargets(tuple(flags.trust)))
    dataset: Any = getattr(data, flags.split)
    if dataset is None:
        raise UserError(f"{path}: has no data.params.{flags.split}")
    return DataOfConfig(dataset, f"{flags.split} data of {path}", recipe(node["params"][flags.split]))


def recipe(node: Any) -> str:
    """A data set's class and arguments on one line, without paths."""
    if isinstance(node, dict) and "target" in node:
        inside = ", ".join(f"{k}={recipe(v)}" for k, v in (node.get("params") or {}).items() if not is_path(v))
        return f"{str(node['target']).rpartition('.')[2]}({inside})"
    return f"[{', '.join(map(recipe, node))}]" if isinstance(node, list) else str(node)


def is_path(value: Any) -> bool:
    """Whether an argument names a file or folder."""
    return isinstance(value, str) and ("/" in value or "\\" in value)


def check_sets(flags: argparse.Namespace, samples: Scan, reference: Scan | None) -> None:
    """Check the number of samples, and that the reference is not generated and has the requested fingerprint.

    Raises:
        UserError: too few samples, or another reference.
    """
    if flags.n is not None and len(samples) < flags.n:
        raise UserError(f"--n {flags.n}: there are {len(samples)} images in {flags.samples}")
    if reference is None:
        return
    if any(reference.settings) and not flags.allow_generated_reference:
        raise UserError(
            f"REFERENCE {flags.reference}: its images were sampled from a model; are SAMPLES and REFERENCE swapped? "
            "(--allow-generated-reference accepts it)"
        )
    expected = flags.reference_sha256
    if expected is not None and (len(expected) < 8 or not reference.fingerprint.startswith(expected.lower().rstrip("."))):
        raise UserError(f"REFERENCE {flags.reference}: its fingerprint is {reference.fingerprint}, expected {expected}")
