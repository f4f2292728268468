"""Atomic writes (a temporary file beside the target, flushed, renamed), and the two formats of weights."""

import errno
import filecmp
import hashlib
import io
import json
import os
import platform
import re
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import NoneType
from typing import IO, Any, TextIO

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ldm.errors import MissingFile, UserError, WriteError

DAY = 86400.0  # seconds
WEIGHTS = "model.safetensors"  # in a published folder
COPIED = 1 << 29  # bytes: enough for the weights of a first stage
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
MACHINE = platform.node().replace(".", "-")[:40]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Context around everything that writes `path`: any failure to write becomes one error.

    On a full disk, torch raises a RuntimeError, safetensors its own error, and most others an OSError without a file name.

    Raises:
        WriteError: names the file and the cause.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (OSError, RuntimeError, SafetensorError) as error:
        raise WriteError(f"{path}: cannot be written ({_cause(error, path)})") from error


def _cause(error: BaseException, path: Path) -> str:
    """Message of the OSError in the chain of errors; else the first line of the last error."""
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, OSError) and one.strerror:
            other = "" if one.filename is None else os.fsdecode(one.filename)
            return one.strerror if other in ("", str(path)) or other.endswith(".part") else f"{one.strerror}: {other!r}"
        one = one.__cause__ or one.__context__
    return (str(error).splitlines() or [type(error).__name__])[0]


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a temporary path beside `path`, flush it to disk, and rename it: a reader never sees a partial file.

    Raises:
        WriteError: it cannot be written; an existing file is unchanged.
    """
    with writing(path):
        if path.exists() and not path.is_file() and not path.is_dir():  # /dev/stdout, a pipe: must not be replaced
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder) / "whole")
                with open(Path(folder) / "whole", "rb") as source, open(path, "wb") as target:
                    shutil.copyfileobj(source, target)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_once(path.parent)
        beside = _beside(path)
        try:
            beside.unlink(missing_ok=True)  # it may be a link
            beside.touch()
            mode = beside.stat().st_mode
            _call(write, beside)
            if beside.stat().st_mode != mode:  # safetensors writes files that only the owner can read
                with suppress(OSError):  # a file system without permissions
                    beside.chmod(mode)
            with open(beside, "rb+") as file:
                _to_disk(file)
            os.replace(beside, path)
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)


def _call(write: Callable[[Path], None], beside: Path) -> None:
    """Write; if that fails without a reason from the library, ask the system."""
    try:
        write(beside)
    except (OSError, RuntimeError, SafetensorError) as error:
        if not getattr(error, "strerror", None):
            with open(beside, "ab") as file:
                file.write(bytes(1 << 20))
                file.flush()
                _to_disk(file)
        raise


def _to_disk(file: IO[bytes]) -> None:
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):  # file systems without fsync
            raise


def _beside(path: Path) -> Path:
    """Temporary path of a file; contains the process id, and is not longer than file systems allow."""
    return path.with_name(f".{path.name[:40]}.{os.getpid()}@{MACHINE}.part")


def clear_remains(folder: Path, owned: bool = False) -> None:
    """Remove temporary files of killed processes: in an `owned` folder, where no other process writes, every `.part` file; elsewhere those
    of processes of this machine that no longer exist, and those not modified for a day.
    """
    for part in folder.glob(".*.part"):
        with suppress(OSError):
            if owned or _is_left(part):
                part.unlink()


def _is_left(part: Path) -> bool:
    hit = re.search(r"\.([0-9]+)@([^.]*)\.part$", part.name)
    if os.name == "posix" and hit and hit[2] == MACHINE:
        try:
            os.kill(int(hit[1]), 0)
        except PermissionError:  # a running process of another user
            return False
        except (ProcessLookupError, OverflowError):
            return True
    return time.time() - part.stat().st_mtime > DAY


@cache
def _clear_once(folder: Path) -> None:
    clear_remains(folder)


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""

    def write(beside: Path) -> None:
        beside.write_text(text, encoding="utf-8")

    write_whole(path, write)


def copy_whole(source: Path, path: Path) -> None:
    """Copy a file atomically."""
    write_whole(path, lambda beside: shutil.copyfile(source, beside))  # type: ignore[arg-type]


def save_png(path: Path, picture: Image.Image, **options: Any) -> None:
    """Write a PNG atomically; `options` as in `Image.save`."""
    write_whole(path, lambda beside: picture.save(beside, format="PNG", **options))


def append_line(path: Path, line: str, durable: bool = False) -> None:
    """Append a line to a text file, after a line break if the last line is incomplete. `durable` flushes it to disk.

    Raises:
        WriteError: it cannot be written completely.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            cut = False
            if file.tell():
                file.seek(-1, os.SEEK_END)
                cut = file.read(1) != b"\n"
            file.write(b"\n" * cut + line.encode() + b"\n")
            file.flush()
            if durable:
                _to_disk(file)


def whole_lines(path: Path) -> TextIO:
    """The complete lines of a file that may still be written: without a last line that has no line break."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return io.StringIO(text[: text.rfind("\n") + 1], newline="")


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically."""
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_whole(path, lambda beside: save_file(whole, beside, header))


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


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a safetensors file: JSON in headers of this project, strings in others.

    Raises:
        UserError: not a safetensors file.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = _parsed(file.metadata())
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """Metadata of a safetensors file, without reading tensors.

    Raises:
        UserError: not a safetensors file.
    """
    try:
        with safe_open(path, "pt") as file:
            return _parsed(file.metadata())
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})") from error


def save_pickled(path: Path, content: Mapping[str, Any]) -> None:
    """`torch.save`, atomically."""

    def write(beside: Path) -> None:
        with open(beside, "wb") as file:  # given a path, torch does not report why it cannot be written
            torch.save(dict(content), file)

    write_whole(path, write)


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a full training state: plain containers and tensors, so that it loads with `weights_only=True`."""
    save_pickled(path, state)


def reason_of(error: Exception) -> str:
    """Reason of a failed read, in one line; torch's own message would advise to allow code execution."""
    text = str(error).strip()
    if "weights_only" in text or "weights only" in text.lower():
        return "it is damaged, or holds something else than tensors and plain containers"
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
    return checked(read_pickle(path, "not a whole checkpoint of this project"), path)


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


def step_of(path: Path) -> int:
    """Training step in the name of a checkpoint or a grid of images; -1 if there is none."""
    hit = re.search(r"step-([0-9]+)", path.name)
    return int(hit[1]) if hit else -1


def point_last_at(path: Path) -> None:
    """Let `last` point to a checkpoint beside it: a link, or a text file with its name if the file system does not support links."""
    last = path.with_name("last")
    beside = _beside(last)
    try:
        beside.unlink(missing_ok=True)
        beside.symlink_to(path.name)
        os.replace(beside, last)
    except (OSError, NotImplementedError):
        write_text(last, path.name + "\n")


def give_second_name(path: Path, other: Path) -> bool:
    """Hard-link a file, so that it stays available if the original is removed; returns whether it worked.

    Without support for hard links, or on different file systems, a file of at most `COPIED` bytes is copied.
    """
    beside = _beside(other)
    with suppress(OSError, NotImplementedError):
        if other.exists() and os.path.samefile(path, other):
            return True
        beside.unlink(missing_ok=True)
        os.link(path, beside)
        os.replace(beside, other)
        return True
    with suppress(OSError, WriteError):
        if other.exists() and filecmp.cmp(path, other, shallow=False):
            return True
        if path.stat().st_size <= COPIED:
            copy_whole(path, other)
            return True
    return False


def followed(path: Path) -> Path:
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
    last = step_of(followed(path / "checkpoints" / "last"))
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
    if followed(last).is_file():
        return followed(last)
    found = sorted(last.parent.glob("step-*.ckpt"), key=step_of)
    if not found:
        raise MissingFile(f"{path}: no checkpoints/step-*.ckpt to continue from")
    return found[-1]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as `sha256sum` prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
