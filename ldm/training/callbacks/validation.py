"""Validation during training: scalars and grids of images, always on the same samples and seeds."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytorch_lightning as pl
import torch

from ldm.data.batch import Batch
from ldm.data.grid import grid_of, named_grid, save_named
from ldm.sampling.generate import to_device
from ldm.training.callbacks.loggers import log_image
from ldm.training.callbacks.metrics import MetricLogger
from ldm.training.callbacks.step import StepCallback
from ldm.training.datamodule import DataModule
from ldm.training.module import TrainingModule

log = logging.getLogger(__name__)


class ValidationCallback(StepCallback):
    """Validation and images with the EMA weights, on the first device.

    Args:
        folder: the run folder; grids are written to `images/`.
        data: source of batches.
        metrics: metric logger.
        validate_every, images_every: steps; 0 disables them.
        batches: number of validation batches.
        count: images per row of a grid.
        classes: names of classes, drawn below the samples of a model that reads them; stored with the picture, as captions are.
    """

    def __init__(
        self,
        folder: Path,
        data: DataModule,
        metrics: MetricLogger,
        validate_every: int,
        images_every: int,
        batches: int,
        count: int = 8,
        classes: Sequence[str] = (),
    ) -> None:
        self.folder, self.data, self.metrics = folder, data, metrics
        self.validate_every, self.images_every, self.batches, self.count = validate_every, images_every, batches, count
        self.classes = classes
        self.cache: list[Batch] = []
        self.warnings: dict[str, str] = {}  # of the last validation: a warning is logged when it first appears, not every time

    def on_step_end(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if not trainer.is_global_zero:
            return
        step = module.step
        validate = bool(self.validate_every) and step % self.validate_every == 0
        pictures = bool(self.images_every) and step % self.images_every == 0
        if validate or pictures:
            self.run(trainer, module, validate, pictures)
            self.metrics.restart_clock()

    @torch.no_grad()
    def run(self, trainer: pl.Trainer, module: TrainingModule, validate: bool, pictures: bool) -> None:
        """Validate and sample images now; an error is reported once, and training continues."""
        if not self.cache:
            with self.metrics.incidents.tolerated("validation data"):
                self._read(module.step)
        if not self.cache:
            return
        module.eval()
        try:
            with trainer.precision_plugin.forward_context(), module.ema.applied() if module.ema else nullcontext():
                if validate:
                    with self.metrics.incidents.tolerated("validation"):
                        self._validate(trainer, module)
                if pictures:
                    with self.metrics.incidents.tolerated("pictures"):
                        self._draw(trainer, module)
        finally:
            module.train()

    def _read(self, step: int) -> None:
        self.cache = self.data.validation_batches(self.batches)
        for note in (note for batch in self.cache for note in batch["skipped"]):
            self.metrics.incidents.add(step, "skipped sample", f"of the validation data: {note}")

    def _validate(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        batches = (to_device(batch, module.device) for batch in self.cache)
        values, warnings = module.validate(batches, self.metrics.latest)
        self.metrics.write(trainer, module.step, {f"validation_{name}": value for name, value in values.items()})
        # Numbers per channel are in the table only, to keep the line readable.
        shown = [f"{name} {value:.4g}" for name, value in values.items() if not name.rpartition("_")[2].isdigit()]
        log.info("step %d: validation: %s", module.step, ", ".join(shown))
        for kind, text in warnings.items():
            if kind not in self.warnings:
                log.warning("step %d: warning: %s", module.step, text)
                self.metrics.incidents.add(module.step, "warning", text)
        for kind in self.warnings.keys() - warnings.keys():
            self.metrics.incidents.add(module.step, "recovered", f"resolved: {self.warnings[kind]}")
        self.warnings = warnings

    def _draw(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        first = {key: value[: self.count] for key, value in self.cache[0].items() if key != "skipped"}
        rows = module.pictures(to_device(first, module.device))
        given, drawn = self._names(first, module), bool(self.classes) and "label" in module.keys()  # noqa: SIM118  # a method of the module
        for name, images in rows.items():
            names = given if len(images) == len(first["image"]) else []
            picture = named_grid(images, names) if any(names) and drawn else grid_of(images)
            with self.metrics.incidents.tolerated("pictures"):
                save_named(self.folder / "images" / f"step-{module.step:06d}-{name}.png", picture, names)
            for logger in trainer.loggers:
                with self.metrics.incidents.tolerated(type(logger).__name__):
                    log_image(logger, name, picture, module.step)

    def _names(self, batch: Batch, module: TrainingModule) -> list[str]:
        """The class or caption of each sample, if the model reads one: a class by its name, by its number without names."""
        keys = module.keys()
        if "label" in keys:
            named = dict(enumerate(self.classes))
            return [named.get(label, "" if named else str(label)) for label in batch["label"].tolist()]
        return list(batch["caption"]) if "caption" in keys else []
