"""The other processes of a run on several devices: they end together."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from ldm.errors import UserError

EXIT_CODE = ".ended"  # file in the run folder: the exit code of the first process that ended
GRACE = 5.0  # seconds for the other processes
HANG = 30.0  # seconds after the end of another process until this one is considered to hang in a collective operation
LOST = "another process of this run ended without a message, as if it was killed"


class ChildProcesses(pl.Callback):
    """The processes that Lightning has started for this one.

    Lightning's own watcher kills all processes at once if one ends with an error, including this one, which may still save.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[subprocess.Popen[bytes]] = []
        self.finished = threading.Event()
        self.report_lost: Callable[[], str] = lambda: LOST  # called if a process ended without a message; returns the message

    def adopt(self, trainer: pl.Trainer) -> None:
        """Take over the processes of a launcher as soon as they are started: one may end before it trains."""
        launcher: Any = trainer.strategy.launcher
        start = getattr(launcher, "_call_children_scripts", None)
        if start is None:
            return

        def start_and_watch() -> None:
            start()
            self.children, launcher.procs[:] = list(launcher.procs), []
            threading.Thread(target=self._watch, daemon=True).start()

        launcher._call_children_scripts = start_and_watch

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.finished.set()  # processes that end now are done; loggers of this one may still need time

    def _watch(self) -> None:
        """Exit if another process has ended and this one hangs waiting for it."""
        while not self.finished.wait(0.5):
            if any(child.poll() for child in self.children):
                if self.finished.wait(HANG):
                    return
                code = reported_code(self.folder, UserError.exit_code, False)
                if code is None:
                    sys.stderr.write(f"error: {self.report_lost()}\n")
                self._kill()
                os._exit(UserError.exit_code if code is None else code)

    def end(self) -> None:
        """Wait for the others briefly, and kill those that hang."""
        self.finished.set()
        end = time.monotonic() + GRACE
        for child in self.children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, end - time.monotonic()))
        self._kill()

    def _kill(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.kill()


def reported_code(folder: Path, code: int, wait: bool) -> int | None:
    """The exit code of a process that has already reported its end; None if this one, with its `code`, is the first.

    With `wait`, another process gets some time to report.
    """
    file = folder / EXIT_CODE
    for _ in range(int(GRACE * 10) if wait else 0):
        if file.exists():
            break
        time.sleep(0.1)
    try:
        with open(file, "x", encoding="utf-8") as new:
            new.write(str(code))
    except FileExistsError:
        text = file.read_text(encoding="utf-8")
        return int(text) if text.isdigit() else UserError.exit_code
    except OSError:  # the folder was removed, or is on another machine
        pass
    return None
