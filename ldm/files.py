"""Files that are whole or not there: written beside, flushed, renamed. And the two formats weights come in."""

import hashlib
import io
import json
import os
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ldm.errors import MissingFile, UserError


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a path beside `path`, flush it to disk, and rename it: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(beside)
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Text, whole or not at all."""

    def write(beside: Path) -> None:
        beside.write_text(text, encoding="utf-8")

    write_whole(path, write)


def append_line(path: Path, line: str, durable: bool = False) -> None:
    """One line at the end of a text file; one that a kill cut off stays alone. `durable`: it is on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        cut = False
        if file.tell():
            file.seek(-1, os.SEEK_END)
            cut = file.read(1) != b"\n"
        file.write(b"\n" * cut + line.encode() + b"\n")
        file.flush()
        if durable:
            os.fsync(file.fileno())


def whole_lines(path: Path) -> TextIO:
    """The lines of a table that ends where a writer was killed, or still writes: without a last one that has no end."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return io.StringIO(text[: text.rfind("\n") + 1], newline="")


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Tensors as safetensors, with metadata (values become JSON) in the header."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    header = {key: json.dumps(value) for key, value in metadata.items()}
    try:
        write_whole(path, lambda beside: save_file(tensors, beside, header))
    except SafetensorError as error:
        raise UserError(f"{path}: cannot be written ({error})") from error


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file of ours.

    Raises:
        UserError: not such a file.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise UserError(f"{path}: not a whole safetensors file of this project ({error})") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """Metadata alone, without reading tensors.

    Raises:
        UserError: not a file of ours.
    """
    try:
        with safe_open(path, "pt") as file:
            return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a whole safetensors file of this project ({error})") from error


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Full training state: plain containers and tensors, so that it loads with `weights_only=True`."""
    write_whole(path, lambda beside: torch.save(dict(state), beside))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Full training state, without executing anything in it.

    Raises:
        UserError: damaged, or not a checkpoint of this project.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        raise UserError(
            f"{path}: not a whole checkpoint of this project ({(str(error).splitlines() or [type(error).__name__])[0][:200]})"
        ) from error
    return checked(state, path)


def checked(state: Any, path: Path) -> dict[str, Any]:
    """The content of a full training state.

    Raises:
        UserError: something of it is missing.
    """
    expected = ("ldm_checkpoint", "step", "seed", "model", "ema", "optimizers", "schedulers", "config", "source")
    if missing := [key for key in expected if not isinstance(state, dict) or key not in state]:
        raise UserError(f"{path}: no training checkpoint of this project ({', '.join(map(repr, missing))} missing)")
    return state  # type: ignore[no-any-return]


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, types and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()


def step_of(path: Path) -> int:
    """Training step in the name of a checkpoint or a grid of pictures, -1 if there is none."""
    hit = re.search(r"step-([0-9]+)", path.name)
    return int(hit[1]) if hit else -1


def newest_weights(path: Path) -> Path:
    """The weights a user means by a run folder or a file.

    Raises:
        MissingFile: nothing there; says what was looked for.
    """
    if path.is_file():
        return path
    if not path.exists():
        raise MissingFile(f"{path}: no such file or run folder")
    found = sorted((path / "checkpoints").glob("step-*.safetensors"), key=step_of)
    last = step_of((path / "checkpoints" / "last").resolve())
    found = [file for file in found if step_of(file) == last] or found
    if not found:
        raise MissingFile(f"{path}: a folder without checkpoints/step-*.safetensors; expected a run folder or a weights file")
    return found[-1]


def newest_checkpoint(path: Path) -> Path:
    """The full training state in a run folder, or the file itself.

    Raises:
        MissingFile: nothing to continue from.
    """
    if path.is_file():
        return path
    last = path / "checkpoints" / "last"
    if last.exists():
        return last.resolve()
    found = sorted((path / "checkpoints").glob("step-*.ckpt"), key=step_of)
    if not found:
        raise MissingFile(f"{path}: no checkpoints/step-*.ckpt to continue from")
    return found[-1]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as `sha256sum` prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
