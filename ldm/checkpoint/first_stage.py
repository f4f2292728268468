"""Find the first stage of a run, also if the run is read from another folder or both were copied elsewhere."""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import chain
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from ldm.checkpoint.read import read_first_stage
from ldm.checkpoint.source import PICKLES, PRETRAINED, nodes_of
from ldm.config import AllowedTargets, build, literal
from ldm.errors import MissingFile, UserError
from ldm.nn.meta import on_meta
from ldm.system.files import hard_link
from ldm.system.weights import fingerprint, read_metadata

log = logging.getLogger(__name__)
KEPT = "first-stage.safetensors"  # in a run folder


def first_stage_record(stage: Any, folder: Path) -> dict[str, str] | None:
    """Record of a run's frozen first stage: path as given, path relative to the run folder, SHA-256; None if it is inside the model."""
    if not stage.sha256:
        return None
    record = {"path": str(stage.checkpoint), "sha256": str(stage.sha256)}
    try:
        return record | {"relative": Path(os.path.relpath(stage.checkpoint, folder)).as_posix()}
    except ValueError:  # on another drive of Windows
        return record


def keep_first_stage(stage: Any, folder: Path) -> None:
    """Hard-link the weights of a run's first stage in the run folder: if stage one continues training, it removes its old checkpoints,
    and with them the weights that this run was trained on."""
    if stage.sha256:
        weights = Path(str(stage.checkpoint))
        linkable = weights.suffix == Path(KEPT).suffix and weights.parent.name == "checkpoints"  # other files may need the YAML beside them
        if linkable and not hard_link(weights, folder / KEPT):
            log.warning(
                "warning: %s: could be neither linked nor copied to %s: keep it, because this run needs exactly this file, and a first "
                "stage that is trained further removes its old weights (trainer.params.keep)",
                weights,
                folder,
            )


def find_first_stage(file: Path, record: Mapping[str, Any], node: Mapping[str, Any], trust: AllowedTargets | None = None) -> str:
    """Find the first stage that weights or a checkpoint were trained with: at the path as given, relative to the run, inside it, or beside
    it.

    Args:
        file: the weights or the checkpoint.
        record: see `first_stage_record`; may be empty.
        node: config node of the first stage.
        trust: allowed targets of the node.

    Returns:
        The path with the recorded SHA-256, else the first that exists: the hash is compared on loading.

    Raises:
        MissingFile: no file was found.
    """
    named = str(record.get("path") or (node.get("params") or {}).get("checkpoint") or "")
    if not named:
        raise MissingFile(f"{file}: its first stage is not recorded: give it with --first-stage")
    expected, first = str(record.get("sha256") or ""), None
    for path in _existing(chain(_candidates(file, named, str(record.get("relative") or "")), _siblings(file, named))):
        beside = os.path.samefile(path.parent, file.parent)
        found = _hash(path, node, trust) if expected or beside else ""
        if beside and not found:
            continue  # the run's own weights, which may have the name of its first stage's
        if not expected or found == expected:
            return str(path)
        first = first or path
    if first is None:
        raise MissingFile(
            f"{named}: no such file or run folder, neither from here nor from the run or beside it; it is the first stage of {file}: "
            "give it with --first-stage"
        )
    return str(first)


def run_of(file: Path) -> Path:
    """The run folder of a checkpoint or weights file; its own folder if it is not in a run."""
    return file.parent.parent if file.parent.name == "checkpoints" else file.parent


def pin_first_stage(state: Mapping[str, Any], checkpoint: Path, overrides: Sequence[str] = ()) -> None:
    """Make a resumed run use exactly the first stage it was started with, even if that one was trained further.

    Args:
        state: state of the checkpoint; its `source` is changed.
        checkpoint: path of the checkpoint.
        overrides: an override of the first stage's path takes precedence.

    Raises:
        MissingFile: the first stage was not found.
    """
    record = state.get("first_stage") or {}
    resolved = nodes_of(state["config"].get("model"), (PRETRAINED,))
    for i, node in enumerate(nodes_of(state["source"].get("model"), (PRETRAINED,))):
        known = resolved[i] if i < len(resolved) else node
        if not (record.get("path") or (known.get("params") or {}).get("checkpoint")):
            continue
        into, key = node.setdefault("params", {}), "checkpoint"
        if reference := re.fullmatch(r"\$\{([\w.]+)\}", str(into.get(key))):  # e.g. ${paths.first_stage}, which overrides still affect
            if any(f"{reference[1]}.".startswith(f"{word.partition('=')[0]}.") for word in overrides):
                continue
            *above, key = reference[1].split(".")
            into = reduce(lambda inner, name: inner.setdefault(name, {}), above, state["source"])
        into[key] = literal(find_first_stage(checkpoint, record, known))


def _candidates(file: Path, named: str, relative: str) -> Iterator[Path]:
    """Candidate paths: as given, relative to the run, relative to the run's parent folders, and beside the run."""
    run = Path(os.path.abspath(run_of(file)))
    yield Path(named)
    if relative:
        yield run / relative
    yield run / KEPT
    name = _pure(named)
    if not name.is_absolute():
        yield from (folder / name for folder in (run, *run.parents))
    parts = [part for part in name.parts if part != name.anchor and part != ".."]
    for folder in (run.parent, run):
        yield from (folder.joinpath(*parts[i:]) for i in range(len(parts)))


def _siblings(file: Path, named: str) -> Iterator[Path]:
    """Weights of the same name in sibling runs, which may have been renamed."""
    name, beside = _pure(named).name, Path(os.path.abspath(run_of(file))).parent
    try:
        folders = sorted(Path(entry.path) for entry in os.scandir(beside) if entry.is_dir())
    except OSError:
        return
    for path in (folder / "checkpoints" / name for folder in folders):
        try:
            params = (read_metadata(path).get("config") or {})["model"]["params"]
        except (UserError, KeyError, TypeError):
            continue
        if "autoencoder" in params:
            yield path


def _existing(paths: Iterable[Path]) -> Iterator[Path]:
    """Existing paths, each file once."""
    seen = set()
    for path in paths:
        if os.path.exists(path) and (place := os.path.realpath(path)) not in seen:
            seen.add(place)
            yield path


def _pure(named: str) -> PurePath:
    return PureWindowsPath(named) if "\\" in named and not os.path.exists(named) else PurePosixPath(named)


def _hash(path: Path, node: Mapping[str, Any], trust: AllowedTargets | None) -> str:
    """SHA-256 of the weights of a first stage; "" if the file is not one."""
    named = (node.get("params") or {}).get("model")
    try:
        with on_meta():
            architecture = (
                build(named, (trust or AllowedTargets()).for_model(), "first_stage") if named and path.suffix in PICKLES else None
            )
        source = read_first_stage(str(path), architecture)
        if "model" in source.config:
            source.node  # noqa: B018  (an error for other models, such as classifiers)
        return fingerprint(source.weights.chosen())
    except UserError:
        return ""
