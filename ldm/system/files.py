"""Files: atomic writes (a temporary file beside the target, flushed, renamed), appended lines, links, hashes."""

import errno
import filecmp
import hashlib
import io
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, TextIO

import torch
from PIL import Image
from safetensors import SafetensorError

from ldm.errors import UserError, WriteError

DAY = 86400.0  # seconds
COPIED = 1 << 29  # bytes: enough for the weights of a first stage
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


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path beside `path`, flush it to disk, and rename it: a reader never sees a partial file.

    Raises:
        WriteError: it cannot be written; an existing file is unchanged.
    """
    with writing(path):
        if path.exists() and not path.is_file() and not path.is_dir():  # /dev/stdout, a pipe: must not be replaced
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder) / "file")
                with open(Path(folder) / "file", "rb") as source, open(path, "wb") as target:
                    shutil.copyfileobj(source, target)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_once(path.parent)
        beside = beside_path(path)
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


def _call(write: Callable[[Path], object], beside: Path) -> None:
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


def beside_path(path: Path) -> Path:
    """Temporary path beside a file; contains the process id, and is not longer than file systems allow."""
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


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from error


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""
    write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def copy_file(source: Path, path: Path) -> None:
    """Copy a file atomically."""
    write_atomically(path, lambda beside: shutil.copyfile(source, beside))


def save_png(path: Path, picture: Image.Image, **options: Any) -> None:
    """Write a PNG atomically; `options` as in `Image.save`."""
    write_atomically(path, lambda beside: picture.save(beside, format="PNG", **options))


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


def complete_lines(path: Path) -> TextIO:
    """The complete lines of a file that may still be written: without a last line that has no line break."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return io.StringIO(text[: text.rfind("\n") + 1], newline="")


def hard_link(path: Path, other: Path) -> bool:
    """Hard-link a file, so that it stays available if the original is removed; returns whether it worked.

    Without support for hard links, or on different file systems, a file of at most `COPIED` bytes is copied.
    """
    beside = beside_path(other)
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
            copy_file(path, other)
            return True
    return False


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as `sha256sum` prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
