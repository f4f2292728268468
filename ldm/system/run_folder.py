"""Checkpoints in a run folder: their steps, `last`, and the newest ones."""

import os
import re
from pathlib import Path

from ldm.errors import MissingFile
from ldm.system.files import beside_path, write_text

WEIGHTS = "model.safetensors"  # in a published folder


def step_of(path: Path) -> int:
    """Training step in the name of a checkpoint or a grid of images; -1 if there is none."""
    hit = re.search(r"step-([0-9]+)", path.name)
    return int(hit[1]) if hit else -1


def point_last_at(path: Path) -> None:
    """Let `last` point to a checkpoint beside it: a link, or a text file with its name if the file system does not support links."""
    last = path.with_name("last")
    beside = beside_path(last)
    try:
        beside.unlink(missing_ok=True)
        beside.symlink_to(path.name)
        os.replace(beside, last)
    except (OSError, NotImplementedError):
        write_text(last, path.name + "\n")


def resolve_last(path: Path) -> Path:
    """The checkpoint that `last` points to; any other path is returned unchanged."""
    if path.name != "last":
        return path
    if not path.is_symlink() and path.is_file() and path.stat().st_size < 256:
        name = Path(path.read_text(encoding="utf-8", errors="replace").strip()).name
        return path.with_name(name or "nothing")
    # Only `last` itself is resolved: `checkpoints` may be a link to another disk, whose parent folder is not the run.
    return path.absolute().parent / os.readlink(path) if path.is_symlink() else path


def newest_weights(path: Path) -> Path:
    """The weights of a run folder or of a published one, or the file itself.

    Raises:
        MissingFile: no such file; the message says what was expected.
    """
    if path.is_file():
        return path
    if not path.exists():
        raise MissingFile(f"{path}: no such file or run folder")
    found = sorted((path / "checkpoints").glob("step-*.safetensors"), key=step_of)
    last = step_of(resolve_last(path / "checkpoints" / "last"))
    found = [file for file in found if step_of(file) == last] or found
    if not found and (path / WEIGHTS).is_file():
        return path / WEIGHTS
    if not found:
        raise MissingFile(f"{path}: a folder without checkpoints/step-*.safetensors; expected a run folder or a weights file")
    return found[-1]


def newest_checkpoint(path: Path) -> Path:
    """The full training state in a run folder, or the file itself.

    Raises:
        MissingFile: there is no checkpoint.
    """
    last = path if path.is_file() else path / "checkpoints" / "last"
    if resolve_last(last).is_file():
        return resolve_last(last)
    found = sorted(last.parent.glob("step-*.ckpt"), key=step_of)
    if not found:
        raise MissingFile(f"{path}: no checkpoints/step-*.ckpt to continue from")
    return found[-1]
