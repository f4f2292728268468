"""End a run before its last step, saved: on Ctrl-C or a signal, or at a time limit."""

import logging
import signal
import threading
import time
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from ldm.system.signals import StopRequests
from ldm.training.callbacks.step import StepCallback
from ldm.training.module import TrainingModule

log = logging.getLogger(__name__)
EVERY = 10  # steps between synchronisations of several devices, which all have to stop after the same step


def agreed(trainer: pl.Trainer, module: TrainingModule, stop: bool) -> bool:
    """Whether to stop after this step, because one of the devices wants to `stop`."""
    if trainer.world_size == 1:
        return stop
    return module.step % EVERY == 0 and trainer.strategy.reduce_boolean_decision(stop, all=False)


class CleanStop(StepCallback):
    """Ctrl-C, SIGTERM and the like end the run after the current step, so that it is saved; a second Ctrl-C ends it at once."""

    def __init__(self) -> None:
        self.requested = False
        self.started = False
        self.requests = StopRequests()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = True
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handle)  # Lightning has just installed its own handler, which waits for the other devices

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal.

        Raises:
            KeyboardInterrupt: the run is to end at once, or has not started.
        """
        first = not self.requests.name
        if self.requests.is_second(number) or (first and not self.started):
            raise KeyboardInterrupt
        if first:
            self.requested = True
            log.warning("%s: stopping after this step (Ctrl-C once more to stop at once)", self.requests.name)

    def on_step_end(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if agreed(trainer, module, self.requested):
            self.requested = trainer.should_stop = True


class TimeLimit(StepCallback):
    """Counts `TrainingModule.seconds`, also over resumes, and ends the run after the step in which the limit is reached.

    Args:
        seconds: the limit; None disables it.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.last = time.perf_counter()

    def reached(self, module: TrainingModule) -> bool:
        """Whether the limit is reached."""
        return self.seconds is not None and module.seconds >= self.seconds

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.last = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, TrainingModule)
        now = time.perf_counter()
        pl_module.seconds += now - self.last
        self.last = now
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_step_end(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if self.seconds is not None and agreed(trainer, module, self.reached(module)):
            module.seconds = max(module.seconds, self.seconds)
            trainer.should_stop = True
