"""Report an error that ends a run: in `incidents.jsonl`, and to the user with the command that continues it."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl

from ldm.errors import MissingFile, UserError, WriteError, out_of_memory, plain
from ldm.system.files import write_text
from ldm.system.run_folder import newest_checkpoint, step_of
from ldm.training.callbacks.child_processes import EXIT_CODE, LOST, ChildProcesses, reported_code
from ldm.training.callbacks.incidents import Incidents
from ldm.training.datamodule import DataModule
from ldm.training.module import TrainingModule

WORKER_KILLED = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (is killed by signal: [\w ]+|exited unexpectedly)")
CONNECTION = re.compile(r"gloo|NCCL|nccl|[Cc]onnection (closed|reset|refused)|[Bb]roken pipe|TCPStore|ProcessGroup")


@contextmanager
def reporting_failures(
    trainer: pl.Trainer, incidents: Incidents, module: TrainingModule, data: DataModule, resume: str, others: ChildProcesses
) -> Iterator[None]:
    """Context that reports any error in one line; the stack trace is written to a file of the run.

    `resume` is the command that continues this run. Of several processes, the first one that ends reports, and the others end with it.

    Raises:
        UserError: replaces every other error.
        KeyboardInterrupt: stopped at once; the message says what is lost and how to continue.
        SystemExit: another process has reported.
    """
    start = module.step

    def report_lost() -> str:
        text = f"step {module.step}: {LOST}"
        incidents.add(module.step, "ended", text)
        return text + how_to_continue(incidents.folder, resume)

    others.report_lost = report_lost
    if trainer.is_global_zero:
        (incidents.folder / EXIT_CODE).unlink(missing_ok=True)
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        cause = error.__context__ if isinstance(error, SystemExit) else error  # Lightning exits when it is interrupted
        if cause is None or isinstance(cause, SystemExit):
            raise
        others.finished.set()
        code = 130 if isinstance(cause, KeyboardInterrupt) else getattr(cause, "exit_code", UserError.exit_code)
        if trainer.world_size > 1 and (first := reported_code(incidents.folder, code, connection_lost(cause))) is not None:
            raise SystemExit(first) from None
        text = description(cause, trainer.world_size, incidents.folder, module, data)
        incidents.add(module.step, "stopped" if code == 130 else "ended", text)
        if module.step > start or not isinstance(cause, UserError):  # otherwise the run was refused, and would be again
            text += how_to_continue(incidents.folder, resume)
        if isinstance(cause, KeyboardInterrupt):
            raise KeyboardInterrupt(text) from None
        raise (type(cause) if isinstance(cause, UserError) else UserError)(text) from error
    finally:
        others.end()


def connection_lost(error: BaseException) -> bool:
    """Whether an error is a consequence of the end of another process."""
    return isinstance(error, RuntimeError) and bool(CONNECTION.search(str(error)))


def how_to_continue(folder: Path, resume: str) -> str:
    """ "; continue from step 10 with ...", if something was saved."""
    try:
        newest = newest_checkpoint(folder)
    except MissingFile:
        return "; nothing was saved yet"
    return f"; continue from step {step_of(newest)} with\n  {resume}"


def description(error: BaseException, world: int, folder: Path, module: TrainingModule, data: DataModule) -> str:
    """What happened, what to do, and the file with the stack trace."""
    if isinstance(error, KeyboardInterrupt):
        return f"stopped at once, at step {module.step}"
    if isinstance(error, UserError):
        return str(error)
    trace = save_trace(error, folder, module.step)
    if world > 1 and connection_lost(error):
        return f"step {module.step}: {LOST}{trace}"
    first = (plain(error).strip().splitlines() or [""])[0]
    if hit := WORKER_KILLED.search(str(error)):
        shared = ", shared memory (/dev/shm)" if "Bus error" in str(error) else ""
        return (
            f"step {module.step}: a loader process ({hit[1]}) {hit[2].strip()}, as happens without enough memory{shared}: "
            f"set data.params.workers below {data.workers}, or give the run more memory{trace}"
        )
    if out_of_memory(error):
        size = data.batch_size // world // module.accumulate
        less = f"data.params.max_per_device below {size} (the global batch stays {data.batch_size}) or " if size > 1 else ""
        return f"out of memory at step {module.step}: set {less}model...network.params.checkpointing=true ({first}){trace}"
    return f"step {module.step}: {type(error).__name__}: {first}{trace}"


def save_trace(error: BaseException, folder: Path, step: int) -> str:
    """Write the stack trace of an error to a file; returns a reference to it for a message."""
    path = folder / f"error-step-{step}.txt"
    try:
        write_text(path, "".join(traceback.format_exception(error)))
    except WriteError:
        return ""
    return f" (more in {path})"
