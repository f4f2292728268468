"""Several processes that work for one: each has a share of the work, and none outlives the command."""

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
from ldm.system.signals import leave_to_parent, unheard

Tick = Callable[[], None]
MOST = 512  # of one kind on one machine: more is a slip, and would take all memory before anything could say so
START = "spawn"  # CUDA does not survive a fork


def side_by_side(work: Callable[..., None], shares: Sequence[tuple[Any, ...]], on_step: Tick | None = None) -> None:
    """Call `work(*share, on_step=...)` for every share, each in a process of its own, and wait for all.

    Args:
        work: a function of a module, for it is imported again in the new process.
        shares: arguments that can be pickled.
        on_step: called here as often as it is called there; without one, `work` gets none.

    Raises:
        UserError: the first one that a process raised, or a process that ended otherwise.
    """
    context: Any = multiprocessing.get_context(START)
    processes: list[Any] = []
    ends: dict[Connection, Any] = {}
    try:
        for share in shares:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_in_process, args=(work, share, theirs, on_step is not None))
            with unheard():
                process.start()
            theirs.close()  # the other end is the process's alone: when that is gone, reading from ours ends
            processes.append(process)
            ends[ours] = process
        while ends:
            for end in wait(list(ends)):
                assert isinstance(end, Connection)
                try:
                    said = end.recv()
                except (EOFError, OSError):
                    _check(ends.pop(end))
                else:
                    if said is not None:
                        raise said
                    assert on_step is not None
                    on_step()
    finally:
        for process in processes:
            process.kill()  # files are whole or not there at any moment
        for process in processes:
            process.join()


def _check(process: Any) -> None:
    process.join()
    if process.exitcode:
        how = f"was killed by signal {-process.exitcode}" if process.exitcode < 0 else f"ended with code {process.exitcode}"
        more = ", as happens without enough memory" if process.exitcode == -signal.SIGKILL else ""
        raise UserError(f"one of the processes {how}{more}; what is written is whole, and the same command goes on from there")


def _in_process(work: Callable[..., None], share: tuple[Any, ...], end: Connection, tells: bool) -> None:
    """What a process does."""
    leave_to_parent()  # the command ends its processes
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        work(*share, **({"on_step": lambda: end.send(None)} if tells else {}))
    except BrokenPipeError:  # the command is gone
        sys.exit(1)
    except Exception as error:  # the command puts them in words, as its own
        error.add_note("".join(traceback.format_exception(error)))
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # one with a constructor of its own
            error = RuntimeError(f"{type(error).__name__}: {error}")
        end.send(error)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
