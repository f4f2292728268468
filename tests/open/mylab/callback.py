"""A callback: how bright the samples of a batch are, in the log."""

from typing import Any

import pytorch_lightning as pl


class Brightness(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(float(batch["image"].mean()))
