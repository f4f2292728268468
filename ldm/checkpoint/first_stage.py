"""Where the first stage of a run lies now: the run may be read from another folder, or both may have been copied elsewhere."""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import chain
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import torch

from ldm.checkpoint.source import PICKLES, PRETRAINED, nodes_of, read_source, stage_of
from ldm.config import AllowedTargets, build, literal
from ldm.errors import MissingFile, UserError
from ldm.system.files import fingerprint, give_second_name, read_metadata

log = logging.getLogger(__name__)
KEPT = "first-stage.safetensors"  # in a run folder


def first_stage_record(stage: Any, folder: Path) -> dict[str, str] | None:
    """What a run says of its frozen first stage: path as given, path from the run's folder, SHA-256; none for one that is inside."""
    if not stage.sha256:
        return None
    record = {"path": str(stage.checkpoint), "sha256": str(stage.sha256)}
    try:
        return record | {"relative": Path(os.path.relpath(stage.checkpoint, folder)).as_posix()}
    except ValueError:  # on another drive of Windows
        return record


def keep_first_stage(stage: Any, folder: Path) -> None:
    """Give the weights of a run's first stage a second name in its folder, without a copy: where stage one goes on, it drops its old
    checkpoints, and with them what this run was trained on."""
    if stage.sha256:
        weights = Path(str(stage.checkpoint))
        apt = weights.suffix == Path(KEPT).suffix and weights.parent.name == "checkpoints"  # others may need the YAML beside them
        if apt and not give_second_name(weights, folder / KEPT):
            log.warning(
                "warning: %s: has no second name in %s, which takes neither links nor a copy of it: keep it, for this run goes on with "
                "nothing else, and a first stage that is trained further drops its old weights (trainer.params.keep)",
                weights,
                folder,
            )


def find_first_stage(file: Path, record: Mapping[str, Any], node: Mapping[str, Any], trust: AllowedTargets | None = None) -> str:
    """The first stage that weights, or a checkpoint, were trained with: at the path as given, as seen from the run, inside it, or
    beside it.

    Args:
        file: the weights or the checkpoint.
        record: as `first_stage_record` made it; may be empty.
        node: config node of the first stage.
        trust: packages that the node may name.

    Returns:
        The one with the recorded SHA-256; if there is none, the first that is there: whoever loads it compares the hash.

    Raises:
        MissingFile: nothing is there.
    """
    named = str(record.get("path") or (node.get("params") or {}).get("checkpoint") or "")
    if not named:
        raise MissingFile(f"{file}: does not say where its first stage is: name it with --first-stage")
    expected, first = str(record.get("sha256") or ""), None
    for path in _there(chain(_places(file, named, str(record.get("relative") or "")), _siblings(file, named))):
        if not expected or _hash(path, node, trust) == expected:
            return str(path)
        first = first or path
    if first is None:
        raise MissingFile(
            f"{named}: no such file or run folder, neither from here nor from the run or beside it; it is the first stage of {file}: "
            "name it with --first-stage"
        )
    return str(first)


def run_of(file: Path) -> Path:
    """The run folder of a checkpoint or of weights; of a file that lies in none, the folder it lies in."""
    return file.parent.parent if file.parent.name == "checkpoints" else file.parent


def pin_first_stage(state: Mapping[str, Any], checkpoint: Path, overrides: Sequence[str] = ()) -> None:
    """A resumed run goes on with the very file it began with, though its first stage's run may have gone further.

    Args:
        state: of the checkpoint; its `source` is changed.
        checkpoint: where it was read.
        overrides: one that sets the first stage's path is left to do so.

    Raises:
        MissingFile: the first stage is nowhere to be found.
    """
    record = state.get("first_stage") or {}
    resolved = nodes_of(state["config"].get("model"), (PRETRAINED,))
    for i, node in enumerate(nodes_of(state["source"].get("model"), (PRETRAINED,))):
        known = resolved[i] if i < len(resolved) else node
        if not (record.get("path") or (known.get("params") or {}).get("checkpoint")):
            continue
        into, key = node.setdefault("params", {}), "checkpoint"
        if reference := re.fullmatch(r"\$\{([\w.]+)\}", str(into.get(key))):  # as ${paths.first_stage}, which overrides go on to reach
            if any(f"{reference[1]}.".startswith(f"{word.partition('=')[0]}.") for word in overrides):
                continue
            *above, key = reference[1].split(".")
            into = reduce(lambda inner, name: inner.setdefault(name, {}), above, state["source"])
        into[key] = literal(find_first_stage(checkpoint, record, known))


def _places(file: Path, named: str, relative: str) -> Iterator[Path]:
    """Where a first stage may lie: as given, as seen from the run, as seen from what the run lies in, and beside the run."""
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
    """Weights of that name in the runs beside a run, which may have been renamed."""
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


def _there(paths: Iterable[Path]) -> Iterator[Path]:
    """Those that exist, each file once, by the name under which it comes first."""
    seen = set()
    for path in paths:
        if os.path.exists(path) and (place := os.path.realpath(path)) not in seen:
            seen.add(place)
            yield path


def _pure(named: str) -> PurePath:
    return PureWindowsPath(named) if "\\" in named and not os.path.exists(named) else PurePosixPath(named)


def _hash(path: Path, node: Mapping[str, Any], trust: AllowedTargets | None) -> str:
    """SHA-256 of the weights of a first stage; "" for something else."""
    named = (node.get("params") or {}).get("model")
    try:
        with torch.device("meta"):
            architecture = (
                build(named, (trust or AllowedTargets()).for_model(), "first_stage") if named and path.suffix in PICKLES else None
            )
        return fingerprint(stage_of(read_source(str(path), stage=architecture)).weights.chosen())
    except UserError:
        return ""
