"""Worker processes: each does a share of the work, and none outlives the command."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from ldm.errors import UserError
from ldm.system.signals import ignore_stop_signals, signals_blocked

MOST = 512  # maximum number of processes: more is a mistake, and would exhaust the memory
START = "spawn"  # CUDA does not survive a fork


def run_processes(work: Callable[..., None], shares: Sequence[tuple[Any, ...]], on_step: Callable[[], None] | None = None) -> None:
    """Call `work(*share, on_step=...)` for every share, each in its own process, and wait for all.

    Args:
        work: a function of a module, which is imported again in the new process.
        shares: picklable arguments.
        on_step: called here whenever a process calls it; if None, `work` gets None.

    Raises:
        UserError: the first one raised by a process, or a process ended unexpectedly.
    """
    context: Any = multiprocessing.get_context(START)
    processes: list[Any] = []
    ends: dict[Connection, Any] = {}
    try:
        for share in shares:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_in_process, args=(work, share, theirs, on_step is not None))
            with signals_blocked():
                process.start()
            theirs.close()  # only the process has the other end: when it exits, reading from ours ends
            processes.append(process)
            ends[ours] = process
        while ends:
            for end in wait(list(ends)):
                assert isinstance(end, Connection)
                try:
                    error = end.recv()
                except (EOFError, OSError):
                    _check(ends.pop(end))
                else:
                    if error is not None:
                        raise error
                    assert on_step is not None
                    on_step()
    finally:
        for process in processes:
            process.kill()  # files are written atomically
        for process in processes:
            process.join()


def _check(process: Any) -> None:
    process.join()
    if process.exitcode:
        how = f"was killed by signal {-process.exitcode}" if process.exitcode < 0 else f"ended with code {process.exitcode}"
        more = ", as happens without enough memory" if process.exitcode == -signal.SIGKILL else ""
        raise UserError(f"one of the processes {how}{more}; all written files are complete, and the same command continues from there")


def _in_process(work: Callable[..., None], share: tuple[Any, ...], end: Connection, tells: bool) -> None:
    """Entry point of a process."""
    ignore_stop_signals()  # the command ends its processes
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        work(*share, **({"on_step": lambda: end.send(None)} if tells else {}))
    except BrokenPipeError:  # the command has ended
        sys.exit(1)
    except Exception as error:  # reported by the command
        error.add_note("".join(traceback.format_exception(error)))
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an exception that cannot be unpickled
            error = RuntimeError(f"{type(error).__name__}: {error}")
        end.send(error)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
