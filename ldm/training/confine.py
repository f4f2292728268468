"""Confine what a resumed run's config may write to the run folder: the run may come from an untrusted source."""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ldm.config import AllowedTargets, Config
from ldm.errors import UserError
from ldm.training.callbacks.loggers import folder_arguments

log = logging.getLogger(__name__)
KINDS = ("callbacks", "loggers")
PATHS = (
    *("save_dir", "dirpath", "root_dir", "log_dir", "dir", "exclude_batches_path"),  # of Lightning's callbacks and loggers
    *("tracking_uri", "artifact_location", "offline_directory"),  # of MLflow and Comet
)
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # of a server, a database or a file; a Windows drive has a single letter
RUN_CONFIG = "the run's config"  # origin of values of the run's config; other origins are the user's


def confined(config: Config, folder: Path, trust: AllowedTargets) -> dict[str, Any]:
    """The config of a resumed run, with callbacks and loggers confined to the run folder.

    A folder elsewhere in the run's own config is replaced by `RUN/callbacks/<name>` or `RUN/loggers/<name>`, with a note; values from
    the user (an override, a further config) are kept.

    Raises:
        UserError: another value of the run's own config that could point outside the folder, or a link in the folder that does.
    """
    refuse_links(folder)
    data = dict(config.data)
    for kind in KINDS:
        if isinstance(data.get(kind), dict):
            data[kind] = {name: _node(node, f"{kind}.{name}", config, folder, trust) for name, node in data[kind].items()}
    return data


def refuse_links(folder: Path) -> None:
    """Refuse links to files and folders outside the run folder, where the run would write. `checkpoints` itself may be on another disk.

    Raises:
        UserError: names the link.
    """
    checkpoints = Path(os.path.realpath(folder / "checkpoints"))
    written = [path for path in folder.iterdir() if path.name != "checkpoints"] + [path for path in checkpoints.rglob("*") if path.is_dir()]
    for path in written:
        if path.is_symlink() and not (is_inside(path, folder) or is_inside(path, checkpoints)):
            raise UserError(f"{path}: a link that leads out of the run folder, which a resumed run would write through: remove it")


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path is in a folder after resolving links."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _node(node: Any, path: str, config: Config, folder: Path, trust: AllowedTargets) -> Any:
    if not isinstance(node, dict) or "target" not in node:
        return node
    kind, _, name = path.partition(".")
    place = folder / kind / (name if _stays_inside(name) else "other")
    params = {key: _value(value, f"{path}.params.{key}", config, folder, place) for key, value in (node.get("params") or {}).items()}
    if kind == "loggers":
        params = dict.fromkeys(folder_arguments(trust.resolve(str(node["target"]))), str(place)) | params
    if str(place) in params.values() and not is_inside(place, folder):
        raise UserError(f"{place}: a link that leads out of the run folder: remove it")
    return {**node, "params": params}


def _value(value: Any, path: str, config: Config, folder: Path, place: Path) -> Any:
    """A value of the run's config, at any depth, confined to the folder."""
    if isinstance(value, list):
        return [_value(item, f"{path}.{i}", config, folder, place) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _value(item, f"{path}.{key}", config, folder, place) for key, item in value.items()}
    if not isinstance(value, str) or config.origin(path) != RUN_CONFIG:
        return value
    if path.rpartition(".")[2] in PATHS and not ADDRESS.match(value):
        if is_inside(Path(value), folder):
            return value
        log.warning(
            "%s: %s is outside the run folder; its files are written to %s (an override may name another folder)", path, value, place
        )
        return str(place)
    if not _stays_inside(value):
        raise UserError(
            f"{path}: {value!r} could lead out of the run folder, in which a resumed run writes; if it is intended, pass it as an override"
        )
    return value


def _stays_inside(text: str) -> bool:
    """Whether a text, used as part of a path, stays below it."""
    kinds = (PurePosixPath(text), PureWindowsPath(text))
    leaves = any(path.anchor or ".." in path.parts for path in kinds)
    return not (leaves or text.startswith("~") or "$" in text or re.match(f"{ADDRESS.pattern}/|file:", text, re.IGNORECASE))
