"""One command at a time in a folder, and its processes with it."""

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
def alone_in(folder: Path, what: str, patience: float = 0.0, instead: str = "stop it") -> Iterator[None]:
    """Keep other commands out of a folder.

    The lock goes with the process that holds it, however that ends. Inside, processes of this command may hold it as well
    (`beside_others`). File systems without locks get none, which is said.

    Args:
        folder: made if need be.
        what: the folder in the user's terms, for messages.
        patience: seconds to wait for the last process of a killed command, which takes a moment to notice.
        instead: what the user may do but wait.

    Raises:
        UserError: another command is at work there.
    """
    with opened(folder) as file:
        end = time.monotonic() + patience
        while not (flock(file, what, shared=False) and flock(file, what, shared=True)):  # somebody may come between the two
            if time.monotonic() > end:
                raise UserError(f"{what}: {owner(file)} is at work there: wait for its end, or {instead}")
            time.sleep(0.05)
        with writing(folder / NAME):
            file.truncate(0)
            file.write(f"{os.getpid()} {socket.gethostname()}\n")
            file.flush()
        yield


@contextmanager
def beside_others(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder together with the command that this process belongs to.

    Raises:
        UserError: that command is gone, and another one has come.
    """
    with opened(folder) as file:
        if not flock(file, what, shared=True):
            raise UserError(f"{what}: {owner(file)} is at work there")
        yield


@contextmanager
def opened(folder: Path) -> Iterator[IO[str]]:
    """The file that is locked. Processes forked from here do not keep it: a loader's worker may outlive its killed owner."""
    with writing(folder / NAME):
        folder.mkdir(parents=True, exist_ok=True)
        # The folder may be a stranger's: a link in it would be written through.
        number = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o666)
        file = open(number, "a+", encoding="utf-8")  # noqa: SIM115  # closed below
    with file:
        held.add(file.fileno())
        try:
            yield file
        finally:
            held.discard(file.fileno())


def _let_go() -> None:
    while held:
        os.close(held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def owner(file: IO[str]) -> str:
    """Who has the lock, as far as that is known."""
    file.seek(0)
    number, _, host = file.read().strip().partition(" ")
    return f"another command (process {number} on {host})" if number and host else "another command"


def flock(file: IO[str], what: str, shared: bool) -> bool:
    """Take the lock or exchange one kind for the other; false if somebody else has it."""
    try:
        if fcntl is None:
            raise OSError("this system has no such locks")
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if not shared:
            log.warning("%s: cannot be locked (%s): see to it that no other command writes there", what, error.strerror or error)
    return True
