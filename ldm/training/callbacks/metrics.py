"""Metrics of a run: means over a few steps, in `metrics.csv` and Lightning's loggers."""

import csv
import io
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from ldm.data.batch import Batch
from ldm.errors import UserError, WriteError
from ldm.system.files import append_line, complete_lines, write_text, writing
from ldm.training.callbacks.incidents import Incidents
from ldm.training.callbacks.memory import peak_memory
from ldm.training.callbacks.step import StepCallback
from ldm.training.module import TrainingModule

log = logging.getLogger(__name__)


class MetricsTable:
    """`metrics.csv`: one row per report, one column per name; new names add columns.

    Args:
        path: path of the file; rows after `start` (of a run that went further before it was resumed) are dropped.
        start: step at which this run starts.

    Attributes:
        damaged: numbers of lines that are not rows, as left by a full disk or an editor; they are dropped as well.
        backup: copy of the file with these lines, if there are any.
    """

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.columns = ["step"]
        self.damaged: list[int] = []
        self.backup = path.with_name(f"{path.name}.damaged")
        self.complete = False  # whether the file has all rows
        if path.is_file():
            self._read(start)
        if self.damaged:
            with writing(self.backup):
                os.replace(path, self.backup)
        if self.rows:
            self._rewrite()

    def _read(self, start: int) -> None:
        lines = [_cells(line) for line in complete_lines(self.path)]
        if not lines:
            return
        if "step" not in lines[0] or len(set(lines[0])) < len(lines[0]):
            self.damaged = [1]
            return
        self.columns = lines[0]
        for number, cells in enumerate(lines[1:], start=2):
            try:
                row = dict(zip(self.columns, cells, strict=True))
                step = int(row["step"])
                [float(cell) for cell in cells if cell]
            except ValueError:
                self.damaged += [number] if cells else []  # empty lines are ignored
                continue
            if step <= start:
                self.rows.append(row)

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; the file is rewritten only if there is a new column or a row that could not be written before.

        Raises:
            WriteError: it cannot be written; it is written with the next row that can be.
        """
        self.rows.append(row)
        new = [key for key in row if key not in self.columns]
        self.columns += new
        if new or not self.complete or not self.path.is_file():
            self._rewrite()
            return
        self.complete = False
        append_line(self.path, self._text([row]))
        self.complete = True

    def _rewrite(self) -> None:
        self.complete = False
        write_text(self.path, self._text([dict(zip(self.columns, self.columns, strict=True)), *self.rows]) + "\n")
        self.complete = True

    def _text(self, rows: list[dict[str, Any]]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerows(rows)
        return text.getvalue().rstrip("\n")


def _cells(line: str) -> list[str]:
    """Cells of one line, parsed alone: in a table, an unmatched quote would span lines."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:  # longer than any row, e.g. blocks that never reached the disk
        return [line]


class MetricLogger(StepCallback):
    """Logs means of the scalars every few steps, and skipped samples.

    Args:
        folder: the run folder.
        every: steps between rows.
        start: step at which this run starts.
        max_skipped: share of skipped samples above which the run stops.
        interval: unfinished interval of the resumed run, as from `interval`.

    Attributes:
        incidents: log of everything that is not a number.
        latest: training scalars of the latest row.
    """

    def __init__(self, folder: Path, every: int, start: int, max_skipped: float, interval: dict[str, Any] | None = None) -> None:
        self.folder, self.every, self.start, self.max_skipped = folder, every, start, max_skipped
        self.incidents = Incidents(folder, start)
        self.sums: dict[str, Tensor] = dict((interval or {}).get("sums", {}))
        self.counts: dict[str, int] = dict((interval or {}).get("counts", {}))
        self.distributed = False  # other devices have their own sums
        self.skipped, self.seen = 0, 0
        self.table: MetricsTable | None = None
        self.clock, self.images = time.perf_counter(), 0
        self.images_per_second = 0.0
        self.latest: dict[str, float] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Processes that were started independently (torchrun, SLURM) may have named the folder differently.
        self.folder = self.incidents.folder = Path(trainer.strategy.broadcast(str(self.folder)))
        self.distributed = trainer.world_size > 1
        if trainer.is_global_zero:
            self.table = MetricsTable(self.folder / "metrics.csv", self.start)
            if lines := self.table.damaged:
                numbers = ", ".join(map(str, lines[:20])) + ", ..." * (len(lines) > 20)
                text = f"{self.table.path}: line {numbers} is not a row of this table; dropped, and kept in {self.table.backup.name}"
                log.warning("warning: %s", text)
                self.incidents.add(self.start, "repaired", text)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.sums = {name: value.to(pl_module.device) for name, value in self.sums.items()}

    def interval(self) -> dict[str, Any]:
        """State for a checkpoint, so that the first row after it covers a complete interval.

        Empty with several devices: each has only its own sums, which cannot be combined with later means over all devices.
        """
        if self.distributed:
            return {"sums": {}, "counts": {}}
        return {"sums": {name: value.detach().cpu().clone() for name, value in self.sums.items()}, "counts": dict(self.counts)}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        assert isinstance(pl_module, TrainingModule)
        self.images += len(batch["id"]) * trainer.world_size
        self._count_skipped(batch, pl_module.step)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_step_end(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        self.incidents.step = module.step
        for name, value in module.metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.to(module.device)
            self.counts[name] = self.counts.get(name, 0) + 1
        if module.step % self.every == 0:
            self.report(trainer, module)

    def _count_skipped(self, batch: Batch, step: int) -> None:
        self.seen += len(batch["id"])
        for note in batch.get("skipped", ()):
            self.skipped += 1
            self.incidents.add(step, "skipped sample", note)
        if self.skipped > self.max_skipped * max(self.seen, 100):
            raise UserError(
                f"{self.skipped} of {self.seen} samples could not be read, more than trainer.params.max_skipped "
                f"({self.max_skipped:.0%}); they are listed in {self.folder / 'incidents.jsonl'}"
            )

    def report(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        """Write a row with the means since the last one.

        Raises:
            UserError: one of them is not finite.
        """
        if not self.sums:
            return
        means = self._means(trainer)
        elapsed = time.perf_counter() - self.clock
        # No steps since a pause, e.g. if the last step was validated: there is no speed to report.
        self.images_per_second = self.images / elapsed if self.images and elapsed > 0 else 0.0
        speed = {"images_per_second": self.images_per_second} if self.images_per_second else {}
        self.sums, self.counts = {}, {}
        self.restart_clock()
        if bad := ", ".join(name for name, value in means.items() if not math.isfinite(value)):
            if trainer.is_global_zero:  # all devices have the same means
                self.incidents.add(module.step, "not finite", bad)
            raise UserError(
                f"step {module.step}: {bad} is not finite. Nothing has been saved since the last checkpoint; resume from it "
                "with a lower learning rate, gradient_clip, or precision: 32-true"
            )
        self.latest = means
        self.write(trainer, module.step, means | module.rates() | speed | {"seconds": module.seconds} | peak_memory(module.device))

    def _means(self, trainer: pl.Trainer) -> dict[str, float]:
        """Means over the interval and over all devices; the only synchronisation with the device."""
        stacked = torch.stack([self.sums[name].float() / self.counts[name] for name in self.sums])
        if trainer.world_size > 1:
            stacked = trainer.strategy.reduce(stacked, reduce_op="mean")  # type: ignore[assignment]
        return dict(zip(self.sums, stacked.tolist(), strict=True))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        self.report(trainer, pl_module)

    def write(self, trainer: pl.Trainer, step: int, values: dict[str, float]) -> None:
        """Write one row to the table and every logger."""
        if self.table is not None:
            try:
                self.table.add({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
            except WriteError as error:
                self.incidents.failure("metrics.csv", error)
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)

    def restart_clock(self) -> None:
        """Called after a pause (validation, images, saving), so that images/s measures training only."""
        self.clock, self.images = time.perf_counter(), 0
