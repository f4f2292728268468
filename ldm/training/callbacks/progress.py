"""Progress of training in the terminal."""

import logging
import sys
import time
from contextlib import suppress
from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm

from ldm.system.progress import clock
from ldm.training.callbacks.metrics import MetricLogger
from ldm.training.callbacks.step import StepCallback
from ldm.training.module import TrainingModule

log = logging.getLogger(__name__)
WARMUP, TIMED = 3, 10  # steps that load and allocate, and steps that are timed for the estimate


class Progress(StepCallback):
    """A progress bar with loss, images/s and time left; without a terminal, one line per interval.

    Args:
        metrics: source of the numbers.
        steps: total number of steps.
        seconds: time limit; None disables it.
        share: share of this training in the total time of what it is part of, such as a demo, in (0, 1].
        price: of one hour of all devices together, in any currency; None prints no costs.
    """

    def __init__(
        self, metrics: MetricLogger, steps: int, seconds: float | None = None, share: float = 1.0, price: float | None = None
    ) -> None:
        self.metrics, self.steps, self.seconds, self.share, self.price = metrics, steps, seconds, share, price
        self.bar: Any = None
        self.start_time, self.first = time.perf_counter(), 0
        self.warm_time = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        self.start_time, self.first = time.perf_counter(), pl_module.step
        if trainer.is_global_zero and sys.stderr.isatty():
            self.bar = tqdm(total=self.steps if self.seconds is None else None, initial=pl_module.step, unit="step", dynamic_ncols=True)

    def on_step_end(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if not trainer.is_global_zero:
            return
        step, table = module.step, self.metrics.table
        if self.bar is not None:
            self.bar.update(step - self.bar.n)
        if step - self.first == WARMUP:
            self.warm_time = time.perf_counter()
        elif step - self.first == WARMUP + TIMED:
            log.info("%s", self.estimate((time.perf_counter() - self.warm_time) / TIMED))
        if step % self.metrics.every or table is None or not table.rows:
            return
        text = f"loss {float(table.rows[-1].get('loss', 'nan')):.4g}, {self.metrics.images_per_second:.0f} images/s"
        left = (time.perf_counter() - self.start_time) / (step - self.first) * (self.steps - step)
        total = f"/{self.steps}"
        if self.seconds is not None:
            left, total = max(min(left, self.seconds - module.seconds), 0.0), ""
        cost = "" if self.price is None else f"; cost so far {self.cost(module.seconds)}, left {self.cost(left)}"
        if self.bar is not None:
            self.bar.set_postfix_str(text + cost)
            return
        with suppress(OSError):  # a log on a full disk, or a closed terminal
            sys.stderr.write(f"step {step}{total}: {text}, {clock(left)} left{cost}\n")
            sys.stderr.flush()

    def cost(self, seconds: float) -> str:
        """The price of some time."""
        return f"{seconds / 3600 * (self.price or 0.0):.2f}"

    def estimate(self, per_step: float) -> str:
        """Estimated time of the remaining steps at `per_step` seconds each."""
        steps = self.steps - self.first
        total = per_step * steps
        if self.seconds is not None and total > self.seconds:
            return f"{per_step:.3g} s per step on this machine; training ends after {clock(self.seconds)}"
        text = f"{per_step:.3g} s per step on this machine: about {clock(total)} for {steps} steps"
        if self.price is not None:
            text += f", {self.cost(total)} at {self.price:g} per hour"
        return text if self.share == 1 else f"{text}, {clock(total / self.share)} with what follows"

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.price is not None and trainer.is_global_zero:
            assert isinstance(pl_module, TrainingModule)
            spent = pl_module.seconds
            log.info("cost so far: %s (%s at %g per hour, with all resumes)", self.cost(spent), clock(spent), self.price)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self.bar is not None:  # the next message starts on its own line
            self.bar.close()
