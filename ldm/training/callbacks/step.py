"""The base of callbacks that act after a step."""

from typing import Any

import pytorch_lightning as pl

from ldm.training.module import TrainingModule


class StepCallback(pl.Callback):
    """A callback of `TrainingModule`, whose steps may consist of several batches."""

    def on_step_end(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        """Called after the last batch of a step."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, TrainingModule)
        if not pl_module._micro:
            self.on_step_end(trainer, pl_module)
