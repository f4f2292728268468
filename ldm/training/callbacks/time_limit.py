"""Training time, and an optional limit, e.g. to compare models of equal compute."""

import time
from typing import Any

import pytorch_lightning as pl

from ldm.training.module import TrainingModule


class TimeLimit(pl.Callback):
    """Counts `TrainingModule.seconds`, also over resumes, and ends the run after the step in which the limit is reached.

    Args:
        seconds: the limit; None disables it.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.last = time.perf_counter()

    def over(self, module: TrainingModule) -> bool:
        """Whether the limit is reached."""
        return self.seconds is not None and module.seconds >= self.seconds

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.last = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, TrainingModule)
        now = time.perf_counter()
        pl_module.seconds += now - self.last
        self.last = now
        if pl_module._micro or self.seconds is None:
            return
        if trainer.world_size == 1:
            stop = self.over(pl_module)
        elif pl_module.step % 10 == 0:  # all devices have to agree on the step, as for a stop
            stop = trainer.strategy.reduce_boolean_decision(self.over(pl_module), all=False)
        else:
            stop = False
        if stop:
            pl_module.seconds = max(pl_module.seconds, self.seconds)
            trainer.should_stop = True
