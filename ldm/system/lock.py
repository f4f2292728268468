"""Locks: one command at a time in a folder, including its processes."""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ldm.errors import UserError
from ldm.system.files import writing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)
NAME = ".lock"
held: set[int] = set()  # file descriptors


@contextmanager
def locked(folder: Path, what: str, patience: float = 0.0, instead: str = "stop it") -> Iterator[None]:
    """Lock a folder for one command.

    The lock is released when its process ends, in whatever way. Processes of this command may share it (`sharing_lock`). On file
    systems without locks there is only a warning.

    Args:
        folder: created if it does not exist.
        what: description of the folder, for messages.
        patience: seconds to wait for the last process of a killed command to end.
        instead: what the user can do instead of waiting.

    Raises:
        UserError: another command is running there.
    """
    with lock_file(folder) as file:
        end = time.monotonic() + patience
        while not (flock(file, what, shared=False) and flock(file, what, shared=True)):  # another command may come between the two
            if time.monotonic() > end:
                raise UserError(f"{what}: {owner(file)} is running there: wait until it ends, or {instead}")
            time.sleep(0.05)
        with writing(folder / NAME):
            file.truncate(0)
            file.write(f"{os.getpid()} {socket.gethostname()}\n")
            file.flush()
        yield


@contextmanager
def sharing_lock(folder: Path, what: str) -> Iterator[None]:
    """Share the lock of a folder with the command that this process belongs to.

    Raises:
        UserError: that command has ended, and another one has the lock.
    """
    with lock_file(folder) as file:
        if not flock(file, what, shared=True):
            raise UserError(f"{what}: {owner(file)} is running there")
        yield


@contextmanager
def lock_file(folder: Path) -> Iterator[IO[str]]:
    """The lock file. Forked processes do not keep it: a loader's worker may outlive its killed parent."""
    with writing(folder / NAME):
        folder.mkdir(parents=True, exist_ok=True)
        # The folder may be untrusted: a link in it must not be followed.
        number = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o666)
        file = open(number, "a+", encoding="utf-8")  # noqa: SIM115  # closed below
    with file:
        held.add(file.fileno())
        try:
            yield file
        finally:
            held.discard(file.fileno())


def _close_locks() -> None:
    while held:
        os.close(held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_locks)


def owner(file: IO[str]) -> str:
    """The owner of the lock, as far as known."""
    file.seek(0)
    number, _, host = file.read().strip().partition(" ")
    return f"another command (process {number} on {host})" if number and host else "another command"


def flock(file: IO[str], what: str, shared: bool) -> bool:
    """Acquire the lock or change its kind; False if another process has it."""
    try:
        if fcntl is None:
            raise OSError("this system does not support locks")
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if not shared:
            log.warning("%s: cannot be locked (%s): make sure that no other command writes there", what, error.strerror or error)
    return True
