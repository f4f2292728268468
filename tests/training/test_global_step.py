"""Callbacks of users key on Lightning's `global_step`: it counts our steps, whatever the optimizers, micro-batches and resumes."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import DeviceStatsMonitor, LearningRateMonitor, Timer
from pytorch_lightning.loggers import CSVLogger

from ldm.data.sources.digits import Digits
from ldm.first_stage import AutoencoderLoss, KLAutoencoder
from ldm.networks import PatchDiscriminator
from ldm.system.run_folder import newest_checkpoint
from ldm.system.weights import read_checkpoint
from ldm.training import AutoencoderTraining, DataModule, TrainerSettings
from ldm.training.run import fit


class EverySecond(pl.Callback):
    """As a user writes it."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.fired: list[int] = []
        self.begun = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begun = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *rest: Any) -> None:
        self.seen.append((trainer.global_step, pl_module.step))
        assert pl_module.global_step == trainer.global_step
        if trainer.global_step % 2 == 0 and trainer.global_step not in self.fired:
            self.fired.append(trainer.global_step)


def train(folder: Path, steps: int, per_device: int | None, state: Any = None, callbacks: Any = (), loggers: Any = ()) -> None:
    torch.manual_seed(0)
    net = KLAutoencoder(2, 32, [1, 1], 1, image_channels=1, middle_attention=False)
    loss = AutoencoderLoss(discriminator=PatchDiscriminator(1, 8, 2), reduction="mean")
    module = AutoencoderTraining(net, loss, lambda named: torch.optim.SGD([p for _, p in named], lr=0.01))
    settings = TrainerSettings(steps, accelerator="cpu", devices=1, precision="32-true", log_every=1, validate_every=0, images_every=0)
    metadata: dict[str, Any] = {"config": {}, "source": {}, "first_stage": None}
    fit(module, DataModule(4, Digits("train", 16), max_per_device=per_device), settings, folder, metadata, 1, state, callbacks, loggers)


@pytest.mark.parametrize("per_device", [None, 2])
def test_global_step_is_the_training_step(per_device: int | None, tmp_path: Path) -> None:
    first, second = EverySecond(), EverySecond()
    train(tmp_path, 3, per_device, callbacks=[first])
    train(tmp_path, 5, per_device, read_checkpoint(newest_checkpoint(tmp_path)), [second])
    assert first.begun == 0 and second.begun == 3
    assert all(ours == theirs for theirs, ours in first.seen + second.seen)
    assert [step for step, _ in first.seen][-1] == 3 and [step for step, _ in second.seen][-1] == 5
    assert first.fired == ([2] if per_device is None else [0, 2]) and second.fired == [4]


def test_lightnings_own_monitors_log_at_training_steps(tmp_path: Path) -> None:
    """Two optimizers, two micro-batches a step, resumed: still one row a step."""
    logger = CSVLogger(tmp_path / "csv", flush_logs_every_n_steps=1)
    timer = Timer(duration="00:01:00:00", interval="step")
    train(
        tmp_path,
        2,
        2,
        callbacks=[LearningRateMonitor(logging_interval="step"), DeviceStatsMonitor(cpu_stats=False), timer],
        loggers=[logger],
    )
    assert timer.time_elapsed() > 0
    train(
        tmp_path,
        4,
        2,
        read_checkpoint(newest_checkpoint(tmp_path)),
        [LearningRateMonitor(logging_interval="step")],
        [CSVLogger(tmp_path / "more")],
    )
    for name, steps in (("csv", {0, 1, 2}), ("more", {2, 3, 4})):
        rows = next((tmp_path / name).rglob("metrics.csv")).read_text().splitlines()
        column = rows[0].split(",").index("step")
        logged = {int(row.split(",")[column]) for row in rows[1:]}
        assert max(steps) in logged and logged <= steps
