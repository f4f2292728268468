"""Weights (safetensors) and training states (`torch.save`), read without executing code and written atomically."""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ldm.errors import UserError
from ldm.system.files import write_atomically

STATE: dict[str, tuple[type, ...]] = {  # required and optional keys of a full training state
    **dict.fromkeys(("step", "seed"), (int,)),
    **dict.fromkeys(("model", "config", "source"), (dict,)),
    **dict.fromkeys(("optimizers", "schedulers"), (list,)),
    **{"ldm_checkpoint": (int,), "ema": (dict, NoneType)},
}
MAYBE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("posthoc", "scaler", "first_stage", "interval"), (dict, NoneType)),
    **{"seconds": (int, float), "auto_precision": (str, NoneType)},
}


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically."""
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, lambda beside: save_file(contiguous, beside, header))


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors as safetensors, with metadata (values as JSON) in the header."""
    save_tensors(path, weights, {key: json.dumps(value) for key, value in metadata.items()})


def _parsed(header: Mapping[str, str] | None) -> dict[str, Any]:
    """Values of a header; those of other programs, which are not JSON, are returned as strings."""
    parsed: dict[str, Any] = {}
    for key, value in (header or {}).items():
        try:
            parsed[key] = json.loads(value)
        except (ValueError, RecursionError):
            parsed[key] = value
    return parsed


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file.

    Raises:
        UserError: it is not one.
    """
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise UserError(f"{path}: not a complete safetensors file ({error})") from error


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a safetensors file: JSON in headers of this project, strings in others.

    Raises:
        UserError: not a safetensors file.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _parsed(file.metadata())  # noqa: SIM118


def read_metadata(path: Path) -> dict[str, Any]:
    """Metadata of a safetensors file, without reading tensors.

    Raises:
        UserError: not a safetensors file.
    """
    with _opened(path) as file:
        return _parsed(file.metadata())


def save_pickled(path: Path, content: Mapping[str, Any]) -> None:
    """`torch.save`, atomically; of plain containers and tensors, so that it loads with `weights_only=True`."""

    def write(beside: Path) -> None:
        with open(beside, "wb") as file:  # given a path, torch does not report why it cannot be written
            torch.save(dict(content), file)

    write_atomically(path, write)


def reason_of(error: Exception) -> str:
    """Reason of a failed read, in one line; torch's own message would advise to allow code execution."""
    text = str(error).strip()
    if "weights_only" in text or "weights only" in text.lower():
        return "it is damaged, or contains more than tensors and plain containers"
    return (text.splitlines() or [type(error).__name__])[0][:200]


def read_pickle(path: Path, complaint: str) -> Any:
    """Read a file of `torch.save` without executing code: tensors, plain containers, and globals allowed by the caller.

    Args:
        path: path of the file.
        complaint: message for a file with other content.

    Raises:
        UserError: damaged, or with anything else in it.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        raise UserError(f"{path}: {complaint} ({reason_of(error)})") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a full training state without executing code.

    Raises:
        UserError: damaged, or not a checkpoint of this project.
    """
    return checked(read_pickle(path, "not a complete checkpoint of this project"), path)


def checked(state: Any, path: Path) -> dict[str, Any]:
    """Validate the content of a full training state.

    Raises:
        UserError: a key is missing or has the wrong type.
    """
    if missing := [key for key in STATE if not isinstance(state, dict) or key not in state]:
        raise UserError(f"{path}: not a training checkpoint of this project ({', '.join(map(repr, missing))} missing)")
    for key, kinds in {**STATE, **MAYBE}.items():
        if key in state and not isinstance(state[key], kinds):
            raise UserError(f"{path}: not a training checkpoint of this project ({key!r} is a {type(state[key]).__name__})")
    if strange := [key for key, value in state["model"].items() if not isinstance(value, Tensor)]:
        raise UserError(f"{path}: not a training checkpoint of this project ({strange[0]!r} of its model is not a tensor)")
    return state  # type: ignore[no-any-return]


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, types and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()
