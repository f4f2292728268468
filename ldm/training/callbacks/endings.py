"""The end of a run: a line in its folder, a line for the user, and the command that continues it."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from ldm.errors import MissingFile, UserError, WriteError, out_of_memory, plain
from ldm.system.files import newest_checkpoint, step_of, write_text
from ldm.training.callbacks.metrics import MetricLogger
from ldm.training.datamodule import DataModule
from ldm.training.module import TrainingModule

ENDED = ".ended"  # in the folder of a run with several processes: the exit code of the first one that ended
GRACE = 5.0  # seconds for the other processes
HANGS = 30.0  # seconds after the end of another process until one that still runs is considered to wait for it on a device
KILLED = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (is killed by signal: [\w ]+|exited unexpectedly)")
LOST = re.compile(
    r"gloo|NCCL|nccl|[Cc]onnection (closed|reset|refused)|[Bb]roken pipe|TCPStore|ProcessGroup"
)  # errors after the end of another process
ALONE = "another process of this run ended without a message, as if it was killed"


class Company(pl.Callback):
    """The processes that Lightning has started for this one: they end together.

    Lightning's own watcher kills all processes at once if one ends with an error, including this one, which may still save.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[subprocess.Popen[bytes]] = []
        self.over = threading.Event()
        self.last_words: Callable[[], str] = lambda: ALONE  # if none of the others has reported

    def adopt(self, trainer: pl.Trainer) -> None:
        """Take over the processes of a launcher as soon as they are started: one may end before it trains."""
        launcher: Any = trainer.strategy.launcher
        start = getattr(launcher, "_call_children_scripts", None)
        if start is None:
            return

        def started() -> None:
            start()
            self.children, launcher.procs[:] = list(launcher.procs), []
            threading.Thread(target=self._watch, daemon=True).start()

        launcher._call_children_scripts = started

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.over.set()  # processes that end now are finished; loggers of this one may still need time

    def _watch(self) -> None:
        """End this process if another one has ended and this one hangs waiting for it on a device."""
        while not self.over.wait(0.5):
            if any(child.poll() for child in self.children):
                if self.over.wait(HANGS):
                    return
                code = said_by_another(self.folder, UserError.exit_code, False)
                if code is None:
                    sys.stderr.write(f"error: {self.last_words()}\n")
                self._kill()
                os._exit(UserError.exit_code if code is None else code)

    def end(self) -> None:
        """Wait for the others briefly, and end those that hang."""
        self.over.set()
        end = time.monotonic() + GRACE
        for child in self.children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, end - time.monotonic()))
        self._kill()

    def _kill(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.kill()


@contextlib.contextmanager
def told(
    trainer: pl.Trainer, records: MetricLogger, module: TrainingModule, data: DataModule, resume: str, company: Company
) -> Iterator[None]:
    """Report whatever ends a run, in `incidents.jsonl` and to the user; the stack trace is written to a file of the run.

    `resume` is the command that continues this run. Of several processes, the first one that ends reports, and the others end with it.

    Raises:
        UserError: in place of every other error.
        KeyboardInterrupt: stopped at once; the message says what is lost and how to continue.
        SystemExit: another process has reported.
    """
    start = module.step

    def last_words() -> str:
        text = f"step {module.step}: {ALONE}"
        records.incident(module.step, "ended", text)
        return text + how_to_continue(records.folder, resume)

    company.last_words = last_words
    if trainer.is_global_zero:
        (records.folder / ENDED).unlink(missing_ok=True)
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        cause = error.__context__ if isinstance(error, SystemExit) else error  # Lightning exits when it is interrupted
        if cause is None or isinstance(cause, SystemExit):
            raise
        company.over.set()
        code = 130 if isinstance(cause, KeyboardInterrupt) else getattr(cause, "exit_code", UserError.exit_code)
        if trainer.world_size > 1 and (said := said_by_another(records.folder, code, lost_another(cause))) is not None:
            raise SystemExit(said) from None
        text = in_words(cause, trainer, records, module, data)
        records.incident(module.step, "stopped" if code == 130 else "ended", text)
        if module.step > start or not isinstance(cause, UserError):  # otherwise the run was refused, and would be again
            text += how_to_continue(records.folder, resume)
        if isinstance(cause, KeyboardInterrupt):
            raise KeyboardInterrupt(text) from None
        raise (type(cause) if isinstance(cause, UserError) else UserError)(text) from error
    finally:
        company.end()


def lost_another(error: BaseException) -> bool:
    """Whether an error is a consequence of the end of another process."""
    return isinstance(error, RuntimeError) and bool(LOST.search(str(error)))


def said_by_another(folder: Path, code: int, lost: bool) -> int | None:
    """The exit code of a process that has already reported; None if this one is the first.

    A process that has `lost` another one gives it some time to report the reason.
    """
    for _ in range(int(GRACE * 10) if lost else 0):
        if (folder / ENDED).exists():
            break
        time.sleep(0.1)
    try:
        with open(folder / ENDED, "x", encoding="utf-8") as file:
            file.write(str(code))
    except FileExistsError:
        said = (folder / ENDED).read_text(encoding="utf-8")
        return int(said) if said.isdigit() else UserError.exit_code
    except OSError:  # the folder was removed, or is on another machine
        pass
    return None


def how_to_continue(folder: Path, resume: str) -> str:
    """ "; continue from step 10 with ...", if something was saved."""
    try:
        newest = newest_checkpoint(folder)
    except MissingFile:
        return "; nothing was saved yet"
    return f"; continue from step {step_of(newest)} with\n  {resume}"


def in_words(error: BaseException, trainer: pl.Trainer, records: MetricLogger, module: TrainingModule, data: DataModule) -> str:
    """What happened, what to do, and the file with the stack trace."""
    if isinstance(error, KeyboardInterrupt):
        return f"stopped at once, at step {module.step}"
    if isinstance(error, UserError):
        return str(error)
    more = where_more(error, records.folder, module.step)
    if trainer.world_size > 1 and lost_another(error):
        return f"step {module.step}: {ALONE}{more}"
    first = (plain(error).strip().splitlines() or [""])[0]
    if hit := KILLED.search(str(error)):
        shared = ", shared memory (/dev/shm)" if "Bus error" in str(error) else ""
        return (
            f"step {module.step}: a loader process ({hit[1]}) {hit[2].strip()}, as happens without enough memory{shared}: "
            f"set data.params.workers below {data.workers}, or give the run more memory{more}"
        )
    if out_of_memory(error):
        size = data.batch_size // trainer.world_size // module.accumulate
        less = f"data.params.max_per_device below {size} (the global batch stays {data.batch_size}) or " if size > 1 else ""
        return f"out of memory at step {module.step}: set {less}model...network.params.checkpointing=true ({first}){more}"
    return f"step {module.step}: {type(error).__name__}: {first}{more}"


def where_more(error: BaseException, folder: Path, step: int) -> str:
    """Write the stack trace of an error to a file; returns a reference to it for a message."""
    path = folder / f"error-step-{step}.txt"
    try:
        write_text(path, "".join(traceback.format_exception(error)))
    except WriteError:
        return ""
    return f" (more in {path})"
