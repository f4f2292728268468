"""A run -> a folder to give away: a model card, weights with everything that the model needs, config, samples, metrics and, where it can be
expressed, a diffusers folder."""

import argparse
import copy
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ldm.checkpoint.convert import to_diffusers, with_first_stage
from ldm.checkpoint.first_stage import run_of
from ldm.checkpoint.frozen import first_stage_source, frozen
from ldm.checkpoint.load import load_model
from ldm.checkpoint.read import read_source
from ldm.checkpoint.source import LoadedCheckpoint, nodes_of, set_text_source
from ldm.cli.card import Card, card
from ldm.cli.scrub import leaks, machine_paths, scrub, without_files, without_paths
from ldm.config import AllowedTargets
from ldm.errors import MissingFile, UserError
from ldm.evaluation.record import Record, write_records
from ldm.evaluation.runs import Run, read_run
from ldm.interop.compvis.text import TARGET as PRETRAINED_TEXT
from ldm.interop.diffusers.text import TOKENIZER_FILES
from ldm.system.files import copy_file, save_png, write_text, writing
from ldm.system.image_files import open_image
from ldm.system.run_folder import WEIGHTS
from ldm.system.shell import as_argument, quoted
from ldm.system.weights import save_weights

CONFIG, CARD, SAMPLES, METRICS, DIFFUSERS, TOKENIZER = "config.yaml", "README.md", "samples.png", "metrics.json", "diffusers", "tokenizer"
WRITTEN = {WEIGHTS, CONFIG, CARD, SAMPLES, METRICS, DIFFUSERS, TOKENIZER}
BERT = "ldm.conditioning.BertTokenizer"


def publish(flags: argparse.Namespace) -> int:
    """Write the folder; returns the exit code."""
    run, trust = read_run(flags.run), AllowedTargets(tuple(flags.trust))
    name = flags.name or flags.out.resolve().name
    check_target(flags.out, flags.overwrite)
    source = read_source(str(flags.run), full=flags.raw)
    if not flags.unfinished:
        check_finished(run, source)
    recipe = published_config(source.config, name, refer=True)
    source = with_first_stage(source, flags.first_stage, trust)
    paths = machine_paths(flags.run, source.path, flags.out.parent)
    records = [published_record(record) for _, record in run.records]
    with beside(flags.out) as folder:
        config = published_config(with_text_source(source, folder, flags.tokenizer), name)
        weights = source.weights.chosen(flags.raw)
        save_weights(folder / WEIGHTS, weights, {"ldm_checkpoint": 1, "step": source.step, "ema": {}, "config": config})
        write_text(folder / CONFIG, yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
        if records:
            write_records(folder / METRICS, records)
        drawn = write_samples(run, flags.samples, folder / SAMPLES)
        model = loaded(folder, source, trust)
        refused, notes = None, list[str]()
        if not flags.no_diffusers:
            try:
                notes = to_diffusers(source, folder / DIFFUSERS, flags.raw, trust=trust)
            except UserError as error:
                refused = without_paths(str(error), paths)
                shutil.rmtree(folder / DIFFUSERS, ignore_errors=True)
        text = card(
            Card(
                name=name,
                model=model,
                config=config,
                recipe=recipe,
                step=source.step,
                images=drawn,
                records=records,
                license=flags.license,
                description=flags.description,
                averaged=not flags.raw and (bool(source.weights.ema) or ".ema." in source.path.name),
                diffusers=(folder / DIFFUSERS).is_dir(),
                refused=refused,
                notes=[without_paths(note, paths) for note in notes],
            )
        )
        write_text(folder / CARD, text)
        for file, path in leaks(folder, paths):
            raise UserError(f"{file.name} would contain {path}: remove it from the run's config or from --description")
    size = sum(file.stat().st_size for file in flags.out.rglob("*") if file.is_file())
    sys.stdout.write(f"{flags.out}: {sum(w.numel() for w in weights.values()) / 1e6:.2f} M parameters, {size / 2**20:.1f} MiB\n")
    notes += [f"{DIFFUSERS}/ is not written: {refused}"] if refused else []
    notes += [] if flags.license else ["the card says that the license is unknown: name one with --license"]
    sys.stdout.writelines(f"note: {note}\n" for note in notes)
    sys.stdout.write(f"next, give it away:\n  {quoted('hf', 'upload', f'USER/{flags.out.resolve().name}', as_argument(flags.out))}\n")
    return 0


def check_target(out: Path, overwrite: bool) -> None:
    """Whether the folder may be written.

    Raises:
        UserError: it exists, and is neither empty nor, with `overwrite`, a folder of this command.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise UserError(f"{out}: already exists; expected a new name or an empty folder")
    if strange := sorted(path.name for path in out.iterdir() if path.name not in WRITTEN):
        raise UserError(f"{out}: already exists, and has {strange[0]!r}, which this command did not write: expected a new or empty folder")
    if not overwrite:
        raise UserError(f"{out}: already exists; expected a new name or an empty folder (--overwrite replaces what this command wrote)")


def check_finished(run: Run, source: LoadedCheckpoint) -> None:
    """Whether a run has done all its steps, or used up its time.

    Raises:
        UserError: it has not.
    """
    limits = (run.config.get("trainer") or {}).get("params") or {}
    steps = limits.get("steps")
    stopped = bool(run.incidents) and run.incidents[-1].get("kind") == "stopped"
    if isinstance(steps, int) and 0 <= source.step < steps and (not limits.get("max_seconds") or stopped):
        raise UserError(
            f"{run_of(source.path)}: has done {source.step} of {steps} steps: resume it, or publish it as it is with --unfinished"
        )


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """A folder that gets the name `out` at the end: nothing is left of a failure, and what was there stays until then."""
    folder = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}.part")
    with writing(folder):
        folder.mkdir(parents=True)
    try:
        yield folder
        with writing(out):
            if out.exists():
                shutil.rmtree(out)
            folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def published_config(config: dict[str, Any], name: str, refer: bool = False) -> dict[str, Any]:
    """A config without the paths of this machine, and without loggers, which name servers.

    Args:
        config: resolved.
        name: of the model.
        refer: replace what `paths:` names by references, so that a path is set once.
    """
    shown = {key: value for key, value in config.items() if key != "loggers"}
    named = {key: value for key, value in (shown.get("paths") or {}).items() if isinstance(value, str) and value}
    if refer:
        references = {value: f"${{paths.{key}}}" for key, value in named.items()}
        shown = {key: value if key == "paths" else referring(value, references) for key, value in shown.items()}
    if "name" in shown:
        shown["name"] = name
    classes = {"classes": config["classes"]} if "classes" in config else {}  # a folder of images may have the name of a class
    return scrub(shown, tuple(named.values())) | classes  # type: ignore[no-any-return]


def referring(value: Any, references: dict[str, str]) -> Any:
    """A tree with references instead of the texts that they stand for."""
    if isinstance(value, dict):
        return {key: referring(item, references) for key, item in value.items()}
    if isinstance(value, list):
        return [referring(item, references) for item in value]
    return references.get(value, value) if isinstance(value, str) else value


def published_record(record: Record) -> Record:
    """A record without paths; of the reference, whether it was the training data."""
    split = next((word for word in ("train", "validation") if record.reference.startswith(f"{word} data of ")), None)
    reference = f"{split} data of the config" if split else "a folder of images" if record.reference else ""
    notes = [note.replace(record.reference, "the reference") if record.reference else note for note in record.notes]
    notes = [note for note in notes if not any(mark in note for mark in ("/", "\\", "folder ", "file "))]
    sampling, (resize, crop) = scrub(dict(record.sampling), key="sampling"), map(without_files, (record.resize, record.crop))
    return replace(record, reference=reference, notes=tuple(notes), sampling=sampling, resize=resize, crop=crop)


def with_text_source(source: LoadedCheckpoint, folder: Path, named: str | None) -> dict[str, Any]:
    """The config with a tokenizer that others have: one that is read from a folder of this machine is copied into the published one.

    Raises:
        UserError: a text encoder in a folder of this machine, which is too large to copy.
    """
    if named is not None:
        set_text_source(source.node["params"].get("conditioner"), named, source.path)
    config = copy.deepcopy(source.config)
    for part in nodes_of(config["model"], (BERT, PRETRAINED_TEXT)):
        place = (part.get("params") or {}).get("source")
        if not isinstance(place, str) or not Path(place).is_dir():
            continue
        if part["target"] != BERT:
            raise UserError(
                f"{source.path}: its text encoder is read from {place}, which others do not have: name it as the hub does, "
                "as --tokenizer openai/clip-vit-large-patch14"
            )
        for name in TOKENIZER_FILES:
            if (Path(place) / name).is_file():
                copy_file(Path(place) / name, folder / TOKENIZER / name)
        part["params"]["source"] = TOKENIZER
    return config


def write_samples(run: Run, named: Path | None, target: Path) -> str | None:
    """The picture of the card, without what its file says beside its pixels; returns what it is, None where there is none."""
    if named is not None:
        if not named.is_file():
            raise MissingFile(f"--samples {named}: no such file")
        step, what, path = None, "samples", named
    else:
        drawn = {what: files[-1] for what, files in run.pictures.items()}
        what = next((what for what in ("samples", "reconstructions") if what in drawn), next(iter(drawn), ""))
        if not what:
            return None
        step, path = drawn[what]
    with open_image(path) as picture:
        pixels = picture.convert(picture.mode if picture.mode in ("L", "RGB", "RGBA") else "RGB")
    pixels.info.clear()
    save_png(target, pixels)
    return what if step is None else f"{what} at step {step}"


def loaded(folder: Path, source: LoadedCheckpoint, trust: AllowedTargets) -> Any:
    """The model as it loads from the new folder, which shows that nothing is missing there."""
    if source.stage_two:
        return load_model(str(folder), trust=trust).model
    return frozen(first_stage_source(str(folder)), trust.for_model())
