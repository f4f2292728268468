"""Checkpoints: full state for resuming, and EMA weights for use."""

import logging
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml

from ldm.errors import MissingFile, UserError, WriteError
from ldm.system.files import clear_remains, write_text, writing
from ldm.system.run_folder import newest_checkpoint, point_last_at, step_of
from ldm.system.weights import save_pickled, save_weights
from ldm.training.callbacks.metrics import MetricLogger
from ldm.training.callbacks.step import StepCallback
from ldm.training.finite import unfinite
from ldm.training.module import TrainingModule
from ldm.training.optim.muon import Muon
from ldm.training.posthoc import PowerEMA

log = logging.getLogger(__name__)
FORMAT = 1
WIDENED = "Muon orthogonalised in bfloat16 when the run began, which this {} does not multiply in hardware: it continues in float32"


class Checkpoints(StepCallback):
    """Writes `checkpoints/step-<n>.ckpt` (full state), the link `last` to the newest, and weights as safetensors beside it.

    Args:
        folder: the run folder.
        every: steps between checkpoints.
        seconds: seconds of training between additional checkpoints; None disables them.
        keep: number of full checkpoints to keep; the same weights are kept.
        metadata: saved in both files: the resolved config, and the origin of the first stage.
        state: full state of the resumed run; its optimizers, schedules and EMA are loaded once they exist.
        metrics: metric logger of the run, whose unfinished interval is saved with a checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        keep: int,
        metadata: dict[str, Any],
        metrics: MetricLogger,
        state: dict[str, Any] | None = None,
        seconds: float | None = None,
    ) -> None:
        self.folder, self.every, self.keep, self.metadata, self.state = folder / "checkpoints", every, keep, metadata, state
        self.seconds, self.metrics = seconds, metrics
        self.saved, self.saved_at = -1, 0.0
        self.infinite: set[str] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        if self.state is not None:
            pl_module.load_progress(self.state)
            self.saved, self.saved_at, self.state = pl_module.step, pl_module.seconds, None
            if any(isinstance(optimizer, Muon) and optimizer.widened() for optimizer in pl_module._optimizers()):
                note = WIDENED.format(pl_module.device.type)
                if trainer.is_global_zero:
                    log.warning("note: %s", note)
                    self.metrics.incidents.add(pl_module.step, "note", note)
        if trainer.is_global_zero:
            self.infinite = set(unfinite({"model": dict(pl_module.training_state())}))
            for folder in (self.folder.parent, self.folder, self.folder / "posthoc", self.folder.parent / "images"):
                clear_remains(folder, owned=True)
            write_text(self.folder.parent / "config.yaml", yaml.safe_dump(self.metadata["config"], sort_keys=False, allow_unicode=True))
            self._set_aside(pl_module.step)

    def _set_aside(self, step: int) -> None:
        """Files of later steps belong to a branch that this run abandons: move them aside."""
        aside = self.folder / "abandoned"
        pairs = ((self.folder, aside), (self.folder / "posthoc", aside / "posthoc"), (self.folder.parent / "images", aside / "images"))
        for folder, to in pairs:
            for path in folder.glob("step-*"):
                if step_of(path) > step:
                    with writing(to / path.name):
                        to.mkdir(parents=True, exist_ok=True)
                        os.replace(path, to / path.name)

    def on_step_end(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        ends = trainer.should_stop or trainer.is_last_batch
        if ends:
            self.metrics.report(trainer, module)  # the last row, so that nothing of it is left for a resumed run
        if ends or module.step % self.every == 0 or self._due(module):
            self.save(trainer, module)  # before validation, which may take long, or fail

    def _due(self, module: TrainingModule) -> bool:
        """Whether a multiple of `seconds` has passed since the last checkpoint."""
        return self.seconds is not None and module.seconds // self.seconds > self.saved_at // self.seconds

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        self.save(trainer, pl_module)
        trainer.strategy.barrier()  # Lightning would end all processes once one has ended, even while another one saves

    def save(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        """Write all files for the module's step, unless they already exist, and remove the oldest.

        Raises:
            UserError: values that are not finite. Nothing is written.
            WriteError: a file cannot be written. Both name the last good checkpoint.
        """
        if not trainer.is_global_zero or self.saved == module.step:
            return
        if bad := list(unfinite({**module.live_state(), "interval": self.metrics.interval()}, self.infinite)):
            more = f" and {len(bad) - 3} more" * (len(bad) > 3)
            raise UserError(
                f"step {module.step}: not finite: {', '.join(bad[:3])}{more}, so this step is not saved{self._good()}; use a lower "
                "learning rate, gradient_clip, or precision: 32-true"
            )
        try:
            self._write(module)
        except WriteError as error:
            raise WriteError(f"step {module.step} is not saved: {error}{self._good()}") from error
        self.saved, self.saved_at = module.step, module.seconds
        with self.metrics.incidents.tolerated("removing old checkpoints"):
            for suffix in ("ckpt", "safetensors"):
                for old in sorted(self.folder.glob(f"step-*.{suffix}"), key=step_of)[: -self.keep]:
                    old.unlink(missing_ok=True)
        self.metrics.restart_clock()

    def _good(self) -> str:
        try:
            return f"; the last good checkpoint is {newest_checkpoint(self.folder.parent)}"
        except MissingFile:
            return ""

    def _write(self, module: TrainingModule) -> None:
        """Write the full state last: if it exists, the checkpoint is complete, however the run ends."""
        path = self.folder / f"step-{module.step}.ckpt"
        metadata = {"ldm_checkpoint": FORMAT, "step": module.step, "seconds": round(module.seconds, 3), **self.metadata}
        kind = "safetensors" if module.ema is None else "ema.safetensors"
        with module.ema.applied() if module.ema is not None else nullcontext():
            save_weights(self.folder / f"step-{module.step}.{kind}", module.weights(), metadata)
        if module.posthoc is not None:
            self._save_snapshot(module.step, module.posthoc)
        save_pickled(path, {**metadata, **module.full_state(), "interval": self.metrics.interval()})
        point_last_at(path)

    def _save_snapshot(self, step: int, posthoc: PowerEMA) -> None:
        """Save the averages from which any other can be computed later; all snapshots are kept."""
        state = posthoc.state_dict()
        metadata = {"step": step, "updates": state.pop("updates"), "lengths": state.pop("lengths")}
        save_weights(self.folder / "posthoc" / f"step-{step}.safetensors", state, metadata)
