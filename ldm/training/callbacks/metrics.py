"""Logs of a run: metrics, incidents, and progress."""

import csv
import io
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from tqdm import tqdm

from ldm.data.batch import Batch
from ldm.errors import UserError, WriteError
from ldm.system.files import append_line, whole_lines, write_text, writing
from ldm.system.progress import clock
from ldm.system.terminal import message
from ldm.training.callbacks.memory import peak_memory
from ldm.training.module import TrainingModule

log = logging.getLogger(__name__)
WARM, TIMED = 3, 10  # warm-up steps, and steps that are timed


class MetricsTable:
    """`metrics.csv`: one row per report, one column per name; new names add columns.

    Args:
        path: path of the file; rows after `start` (of a run that went further before it was resumed) are dropped.
        start: step at which this run starts.

    Attributes:
        foreign: numbers of damaged lines, as left by a full disk or an editor; they are dropped as well.
        kept: copy of the file with these lines, if there are any.
    """

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.columns = ["step"]
        self.foreign: list[int] = []
        self.kept = path.with_name(f"{path.name}.damaged")
        self.whole = False  # whether the file has all rows
        if path.is_file():
            self._read(start)
        if self.foreign:
            with writing(self.kept):
                os.replace(path, self.kept)
        if self.rows:
            self._rewrite()

    def _read(self, start: int) -> None:
        lines = [_cells(line) for line in whole_lines(self.path)]
        if not lines:
            return
        if "step" not in lines[0] or len(set(lines[0])) < len(lines[0]):
            self.foreign = [1]
            return
        self.columns = lines[0]
        for number, cells in enumerate(lines[1:], start=2):
            try:
                row = dict(zip(self.columns, cells, strict=True))
                step = int(row["step"])
                [float(cell) for cell in cells if cell]
            except ValueError:
                self.foreign += [number] if cells else []  # empty lines are ignored
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
        if new or not self.whole or not self.path.is_file():
            self._rewrite()
            return
        self.whole = False
        append_line(self.path, self._text([row]))
        self.whole = True

    def _rewrite(self) -> None:
        self.whole = False
        write_text(self.path, self._text([dict(zip(self.columns, self.columns, strict=True)), *self.rows]) + "\n")
        self.whole = True

    def _text(self, rows: list[dict[str, Any]]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerows(rows)
        return text.getvalue().rstrip("\n")


class MetricLogger(pl.Callback):
    """Logs means of the scalars every few steps, to CSV and Lightning's loggers; incidents to `incidents.jsonl`.

    Args:
        folder: the run folder.
        every: steps between rows.
        start: step at which this run starts.
        max_skipped: share of skipped samples above which the run stops.
        interval: unfinished interval of the resumed run, as from `interval`.
    """

    def __init__(self, folder: Path, every: int, start: int, max_skipped: float, interval: dict[str, Any] | None = None) -> None:
        self.folder, self.every, self.max_skipped = folder, every, max_skipped
        self.start = self.step = start
        self.sums: dict[str, Tensor] = dict((interval or {}).get("sums", {}))
        self.counts: dict[str, int] = dict((interval or {}).get("counts", {}))
        self.several = False  # whether other devices have their own sums
        self.told: set[str] = set()
        self.causes: list[BaseException] = []
        self.skipped, self.seen = 0, 0
        self.table: MetricsTable | None = None
        self.clock, self.images = time.perf_counter(), 0
        self.images_per_second = 0.0
        self.latest: dict[str, float] = {}  # training scalars of the latest row

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Processes that were started independently (torchrun, SLURM) may have named the folder differently.
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))
        self.several = trainer.world_size > 1
        if trainer.is_global_zero:
            self.table = MetricsTable(self.folder / "metrics.csv", self.start)
            if self.table.foreign:
                lines = ", ".join(map(str, self.table.foreign[:20])) + ", ..." * (len(self.table.foreign) > 20)
                what = f"{self.table.path}: line {lines} is not a row of this table; dropped, and kept in {self.table.kept.name}"
                log.warning("warning: %s", what)
                self.incident(self.start, "repaired", what)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.sums = {name: value.to(pl_module.device) for name, value in self.sums.items()}

    def interval(self) -> dict[str, Any]:
        """State for a checkpoint, so that the first row after it covers its whole interval.

        Empty with several devices: each has only its own sums, which cannot be combined with later means over all devices.
        """
        if self.several:
            return {"sums": {}, "counts": {}}
        return {"sums": {name: value.detach().cpu().clone() for name, value in self.sums.items()}, "counts": dict(self.counts)}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        assert isinstance(pl_module, TrainingModule)
        self.images += len(batch["id"]) * trainer.world_size
        self._count_skipped(batch, pl_module.step)
        if pl_module._micro:  # in the middle of a step
            return
        self.step = pl_module.step
        for name, value in pl_module.metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.to(pl_module.device)
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
        """One line in `incidents.jsonl`; if it cannot be written, the run continues."""
        try:
            append_line(self.folder / "incidents.jsonl", json.dumps({"step": step, "kind": kind, "what": message(text)}))
        except WriteError as error:
            if "incidents" not in self.told:
                self.told.add("incidents")
                log.warning("warning: %s", error)

    def note(self, trainer: pl.Trainer, step: int, text: str) -> None:
        """A note on the run, logged by the first process."""
        if trainer.is_global_zero:
            log.warning("note: %s", text)
            self.incident(step, "note", text)

    def trouble(self, what: str, error: BaseException) -> None:
        """Something beside training failed, and training continues: reported the first time."""
        cause = first_cause(error)
        if what in self.told or any(cause is one for one in self.causes):
            return
        self.told.add(what)
        self.causes.append(cause)
        text = f"{what}: {in_words(error)}; training continues, and this is not reported again"
        log.warning("step %d: warning: %s", self.step, text)
        self.incident(self.step, "warning", text)

    @contextmanager
    def tolerated(self, what: str) -> Iterator[None]:
        """Context in which an error is reported and ends only the block itself."""
        try:
            yield
        except Exception as error:
            self.trouble(what, error)

    def report(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if not self.sums:
            return
        means = self._means(trainer)
        elapsed = time.perf_counter() - self.clock
        # No steps since a pause, e.g. if the last step was validated: there is no speed to report.
        self.images_per_second = self.images / elapsed if self.images and elapsed > 0 else 0.0
        speed = {"images_per_second": self.images_per_second} if self.images_per_second else {}
        self.sums, self.counts, self.images, self.clock = {}, {}, 0, time.perf_counter()
        if not all(map(torch.isfinite, map(torch.tensor, means.values()))):
            bad = [name for name, value in means.items() if value != value or abs(value) == float("inf")]
            if trainer.is_global_zero:  # all devices have the same means
                self.incident(module.step, "not finite", ", ".join(bad))
            raise UserError(
                f"step {module.step}: {', '.join(bad)} is not finite. Nothing has been saved since the last checkpoint; resume from it "
                "with a lower learning rate, gradient_clip, or precision: 32-true"
            )
        self.latest = means
        self.write(trainer, module.step, means | module.rates() | speed | peak_memory(module.device))

    def _means(self, trainer: pl.Trainer) -> dict[str, float]:
        """Means over the interval and over all devices; the only synchronisation with the device."""
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
            try:
                self.table.add({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
            except WriteError as error:
                self.trouble("metrics.csv", error)
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)

    def restart_clock(self) -> None:
        """Called after a pause (validation, images, saving), so that images/s measures training only."""
        self.clock, self.images = time.perf_counter(), 0


class Progress(pl.Callback):
    """A progress bar with loss, images/s and time left; without a terminal, one line per interval.

    Args:
        records: metric logger with the numbers.
        steps: total number of steps.
        seconds: time limit; None disables it.
        share: share of this training in the total time of what it is part of, such as a demo, in (0, 1].
    """

    def __init__(self, records: MetricLogger, steps: int, seconds: float | None = None, share: float = 1.0) -> None:
        self.records, self.steps, self.seconds, self.share = records, steps, seconds, share
        self.bar: Any = None
        self.begun, self.first = time.perf_counter(), 0
        self.warm = 0.0  # end of the warm-up steps, which load and allocate

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
        with suppress(OSError):  # a log on a full disk, or a closed terminal
            sys.stderr.write(f"step {step}{of_all}: {text}, {clock(left)} left\n")
            sys.stderr.flush()

    def expectation(self, per_step: float) -> str:
        """Estimated time of the remaining steps at `per_step` seconds each."""
        steps = self.steps - self.first
        whole = per_step * steps
        if self.seconds is not None and whole > self.seconds:
            return f"{per_step:.3g} s per step on this machine; training ends after {clock(self.seconds)}"
        text = f"{per_step:.3g} s per step on this machine: about {clock(whole)} for {steps} steps"
        return text if self.share == 1 else f"{text}, {clock(whole / self.share)} with what follows"

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self.bar is not None:  # the next message starts on its own line
            self.bar.close()


def _cells(line: str) -> list[str]:
    """Cells of one line, parsed alone: in the whole table, an unmatched quote would span lines."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:  # longer than any row, e.g. blocks that never reached the disk
        return [line]


def first_cause(error: BaseException) -> BaseException:
    """The underlying OSError of an error, if any; else the error."""
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, OSError):
            return one
        one = one.__cause__ or one.__context__
    return error


def in_words(error: BaseException) -> str:
    """An error in one line; an unexpected one with its location."""
    if not isinstance(error, UserError):
        error = first_cause(error)
    text = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, UserError):
        return text
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})"
    return f"{type(error).__name__}: {text}{where}"
