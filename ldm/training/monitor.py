"""Looking at a run as it goes: validation numbers and grids of pictures, always on the same samples and seeds."""

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchvision.utils import make_grid

from ldm.data.batch import Batch
from ldm.data.images import to_image
from ldm.files import write_whole
from ldm.generation import to_device
from ldm.training.datamodule import DataModule
from ldm.training.module import TrainingModule
from ldm.training.records import Records

log = logging.getLogger(__name__)


class Monitor(pl.Callback):
    """Validation and pictures under the EMA weights, on the first device.

    Args:
        folder: of the run; grids go to `images/`.
        data: where batches come from.
        records: where numbers go to.
        validate_every, images_every: steps; 0 is never.
        batches: of the validation set.
        count: images per row of a grid.
    """

    def __init__(
        self, folder: Path, data: DataModule, records: Records, validate_every: int, images_every: int, batches: int, count: int = 8
    ) -> None:
        self.folder, self.data, self.records = folder, data, records
        self.validate_every, self.images_every, self.batches, self.count = validate_every, images_every, batches, count
        self.cache: list[Batch] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, TrainingModule)
        step = pl_module.step
        if pl_module._micro or not trainer.is_global_zero:
            return
        validate = bool(self.validate_every) and step % self.validate_every == 0
        pictures = bool(self.images_every) and step % self.images_every == 0
        if validate or pictures:
            self.look(trainer, pl_module, validate, pictures)
            self.records.restart_clock()

    @torch.no_grad()
    def look(self, trainer: pl.Trainer, module: TrainingModule, validate: bool, pictures: bool) -> None:
        """Evaluate and draw now."""
        if not self.cache:
            self.cache = self.data.validation_batches(self.batches)
        module.eval()
        with trainer.precision_plugin.forward_context(), module.ema.applied() if module.ema else nullcontext():
            if validate:
                self._validate(trainer, module)
            if pictures:
                self._draw(module)
        module.train()

    def _validate(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        totals: dict[str, float] = {}
        for batch in self.cache:
            for name, value in module.evaluate(to_device(batch, module.device)).items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(batch["id"])
        count = sum(len(batch["id"]) for batch in self.cache)
        values = {f"validation_{name}": total / count for name, total in totals.items()}
        self.records.write(trainer, module.step, values)
        log.info("step %d: %s", module.step, ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
        for text in warnings(values, self.records.table.rows if self.records.table else []):
            log.warning("step %d: %s", module.step, text)
            self.records.incident(module.step, "warning", text)

    def _draw(self, module: TrainingModule) -> None:
        first = {key: value[: self.count] for key, value in self.cache[0].items() if key != "skipped"}
        rows = module.pictures(to_device(first, module.device))
        for name, images in rows.items():
            path = self.folder / "images" / f"step-{module.step:06d}-{name}.png"
            save_grid(images, path)


def warnings(values: dict[str, float], rows: list[dict[str, Any]]) -> list[str]:
    """What looks wrong, in words."""
    found = []
    latest = {key: float(value) for row in rows[-3:] for key, value in row.items() if value not in ("", None)}
    if latest.get("codebook_usage", 1.0) < 0.05:
        found.append(f"only {latest['codebook_usage']:.1%} of the codebook is in use: it may be collapsing")
    if latest.get("latent_std", 1.0) < 1e-3:
        found.append(f"the latent's standard deviation is {latest['latent_std']:.2g}: the encoder may have collapsed")
    if latest.get("discriminator", 1.0) < 1e-3:
        found.append("the discriminator's loss is almost zero: it has won, and its gradients no longer help")
    if values.get("validation_psnr", 99.0) < 10.0:
        found.append(f"reconstructions are poor (PSNR {values['validation_psnr']:.1f} dB)")
    return found


def save_grid(images: Tensor, path: Path, columns: int = 8) -> None:
    """Images `(B, C, H, W)` in [-1, 1] as one PNG, `columns` in a row, whole or not at all."""
    grid = make_grid(images.float().cpu().clamp(-1, 1), nrow=columns, padding=2, pad_value=1.0)
    write_whole(path, lambda beside: to_image(grid).save(beside, format="PNG"))
