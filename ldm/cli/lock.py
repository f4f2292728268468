"""One command at a time in a folder, and its processes with it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ldm.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PATIENCE = 10.0  # seconds: processes of a command that was killed take a moment to notice


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other commands out of a folder, and wait until the last process of a killed one is gone.

    The lock goes with the process that holds it, however it ends. Inside, processes of this command may hold it as well
    (`beside_others`). File systems without locks get none.

    Raises:
        UserError: another command is at work there.
    """
    with open(folder / ".lock", "w") as file:
        end = time.monotonic() + PATIENCE
        while not (flock(file, shared=False) and flock(file, shared=True)):  # somebody may come between the two
            if time.monotonic() > end:
                raise UserError(f"--outdir {folder}: another command is writing there: wait for its end, or name another folder")
            time.sleep(0.05)
        yield


@contextmanager
def beside_others(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder together with the command that this process belongs to.

    Raises:
        UserError: that command is gone, and another one has come.
    """
    with open(folder / ".lock", "w") as file:
        if not flock(file, shared=True):
            raise UserError(f"--outdir {folder}: another command is writing there")
        yield


def flock(file: object, shared: bool) -> bool:
    """Take the lock or exchange one kind for the other; false if somebody else has it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)  # type: ignore[arg-type]
    except BlockingIOError:
        return False
    except OSError:  # this file system has no locks
        return True
    return True
