"""What a run leaves behind as it goes: metrics, incidents, and a line to read."""

import csv
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from tqdm import tqdm

from ldm.data.batch import Batch
from ldm.errors import UserError
from ldm.files import append_line, whole_lines, write_text
from ldm.training.memory import peak_memory
from ldm.training.module import TrainingModule

log = logging.getLogger(__name__)
WARM, TIMED = 3, 10  # steps before the clock runs, and steps that it times


class MetricsTable:
    """`metrics.csv`: one row per report, one column per name; new names widen the table.

    Args:
        path: of the file; rows beyond `start` (from a run that went further before it was resumed) are dropped.
        start: step at which this run begins.
    """

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.is_file():
            self.rows = [row for row in csv.DictReader(whole_lines(path)) if int(row["step"]) <= start]
        self.columns = list(dict.fromkeys(key for row in self.rows for key in row)) or ["step"]
        if self.rows:
            self._rewrite()

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; rewrites the file only when it has a new column."""
        self.rows.append(row)
        if new := [key for key in row if key not in self.columns]:
            self.columns += new
            self._rewrite()
            return
        fresh = not self.path.is_file()
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            if fresh:
                writer.writeheader()
            writer.writerow(row)

    def _rewrite(self) -> None:
        lines = [",".join(self.columns)]
        lines += [",".join(str(row.get(key, "")) for key in self.columns) for row in self.rows]
        write_text(self.path, "\n".join(lines) + "\n")


class Records(pl.Callback):
    """Means of the step's scalars every few steps, to CSV and Lightning's loggers; incidents to `incidents.jsonl`.

    Args:
        folder: of the run.
        every: steps between rows.
        start: step at which this run begins.
        max_skipped: share of skipped samples at which the run stops.
    """

    def __init__(self, folder: Path, every: int, start: int, max_skipped: float) -> None:
        self.folder, self.every, self.max_skipped = folder, every, max_skipped
        self.start = start
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.skipped, self.seen = 0, 0
        self.table: MetricsTable | None = None
        self.clock, self.images = time.perf_counter(), 0
        self.images_per_second = 0.0
        self.latest: dict[str, float] = {}  # training scalars of the newest row

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Processes that were started apart from one another (torchrun, SLURM) may have named the folder differently.
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))
        if trainer.is_global_zero:
            self.table = MetricsTable(self.folder / "metrics.csv", self.start)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        assert isinstance(pl_module, TrainingModule)
        self.images += len(batch["id"]) * trainer.world_size
        self._count_skipped(batch, pl_module.step)
        if pl_module._micro:  # in the middle of a step
            return
        for name, value in pl_module.metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        if pl_module.step % self.every == 0:
            self.report(trainer, pl_module)

    def _count_skipped(self, batch: Batch, step: int) -> None:
        self.seen += len(batch["id"])
        for note in batch.get("skipped", ()):
            self.skipped += 1
            self.incident(step, "skipped sample", note)
        if self.skipped > self.max_skipped * max(self.seen, 100):
            raise UserError(
                f"{self.skipped} of {self.seen} samples could not be read, more than trainer.params.max_skipped "
                f"({self.max_skipped:.0%}); they are listed in {self.folder / 'incidents.jsonl'}"
            )

    def incident(self, step: int, kind: str, text: str) -> None:
        """One line in `incidents.jsonl`."""
        append_line(self.folder / "incidents.jsonl", json.dumps({"step": step, "kind": kind, "what": text}))

    def report(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if not self.sums:
            return
        means = self._means(trainer)
        elapsed = time.perf_counter() - self.clock
        # None since a pause, as where the last step was validated: then there is no speed to tell.
        self.images_per_second = self.images / elapsed if self.images and elapsed > 0 else 0.0
        speed = {"images_per_second": self.images_per_second} if self.images_per_second else {}
        self.sums, self.counts, self.images, self.clock = {}, {}, 0, time.perf_counter()
        if not all(map(torch.isfinite, map(torch.tensor, means.values()))):
            bad = [name for name, value in means.items() if value != value or abs(value) == float("inf")]
            if trainer.is_global_zero:  # all devices know the same means
                self.incident(module.step, "not finite", ", ".join(bad))
            raise UserError(
                f"step {module.step}: {', '.join(bad)} is not finite. Nothing was saved since the last checkpoint; resume from it "
                "with a lower learning rate, gradient_clip, or precision: 32-true"
            )
        self.latest = means
        self.write(trainer, module.step, means | module.rates() | speed | peak_memory(module.device))

    def _means(self, trainer: pl.Trainer) -> dict[str, float]:
        """Means over the interval and over all devices; the only wait for the device."""
        names = list(self.sums)
        stacked = torch.stack([self.sums[name].float() / self.counts[name] for name in names])
        if trainer.world_size > 1:
            stacked = trainer.strategy.reduce(stacked, reduce_op="mean")  # type: ignore[assignment]
        return dict(zip(names, stacked.tolist(), strict=True))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        self.report(trainer, pl_module)

    def write(self, trainer: pl.Trainer, step: int, values: dict[str, float]) -> None:
        """One row in the table and in every logger."""
        if self.table is not None:
            self.table.add({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)

    def restart_clock(self) -> None:
        """After a pause (validation, pictures, saving), so that images/s speaks of training alone."""
        self.clock, self.images = time.perf_counter(), 0


class Progress(pl.Callback):
    """A bar with loss, images/s and time left; where there is no terminal, one line per interval.

    Args:
        records: where the numbers come from.
        steps: of the whole run.
        seconds: at which it ends, if before; None sets no limit.
        share: of the time of what this training is a part of, such as a demo, in (0, 1].
    """

    def __init__(self, records: Records, steps: int, seconds: float | None = None, share: float = 1.0) -> None:
        self.records, self.steps, self.seconds, self.share = records, steps, seconds, share
        self.bar: Any = None
        self.begun, self.first = time.perf_counter(), 0
        self.warm = 0.0  # when the first steps, which load and allocate, were done

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        self.begun, self.first = time.perf_counter(), pl_module.step
        if trainer.is_global_zero and sys.stderr.isatty():
            self.bar = tqdm(total=self.steps if self.seconds is None else None, initial=pl_module.step, unit="step", dynamic_ncols=True)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        assert isinstance(pl_module, TrainingModule)
        if pl_module._micro or not trainer.is_global_zero:
            return
        step, table = pl_module.step, self.records.table
        if self.bar is not None:
            self.bar.update(step - self.bar.n)
        if step - self.first == WARM:
            self.warm = time.perf_counter()
        elif step - self.first == WARM + TIMED:
            log.info("%s", self.expectation((time.perf_counter() - self.warm) / TIMED))
        if step % self.records.every or table is None or not table.rows:
            return
        row = table.rows[-1]
        text = f"loss {float(row.get('loss', 'nan')):.4g}, {self.records.images_per_second:.0f} images/s"
        if self.bar is not None:
            self.bar.set_postfix_str(text)
            return
        left = (time.perf_counter() - self.begun) / (step - self.first) * (self.steps - step)
        of_all = f"/{self.steps}"
        if self.seconds is not None:
            left, of_all = max(min(left, self.seconds - pl_module.seconds), 0.0), ""
        sys.stderr.write(f"step {step}{of_all}: {text}, {clock(left)} left\n")
        sys.stderr.flush()

    def expectation(self, per_step: float) -> str:
        """How long the steps that are left will take on this machine, at `per_step` seconds each."""
        steps = self.steps - self.first
        whole = per_step * steps
        if self.seconds is not None and whole > self.seconds:
            return f"{per_step:.3g} s per step on this machine; training ends after {clock(self.seconds)}"
        text = f"{per_step:.3g} s per step on this machine: about {clock(whole)} for {steps} steps"
        return text if self.share == 1 else f"{text}, and {clock(whole / self.share)} for the whole demo"

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
