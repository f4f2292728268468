"""The data of a run: batches that depend on the seed and the step, distributed over devices."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import Dataset

from ldm.data.batch import Batch, Sample, check_sample, collate
from ldm.data.loader import Loader
from ldm.data.order import Draw, StepBatches, kinds, spread
from ldm.errors import UserError
from ldm.ranges import integer
from ldm.system.processes import MOST


class Varied(Dataset[Sample]):
    """A data set indexed by (index, position): augmentation depends on the position in the run's order.

    The first sample of every worker is validated against the batch schema.
    """

    def __init__(self, dataset: Dataset[Sample], seed: int) -> None:
        self.dataset, self.seed, self.checked = dataset, seed, False

    def __getitem__(self, key: Draw) -> Sample:
        index, place = key
        varied = getattr(self.dataset, "varied", None)
        sample: Sample = varied(index, self.seed, place) if varied else self.dataset[index]
        if not self.checked:
            check_sample(sample, type(self.dataset).__name__)
            self.checked = True
        return {**sample, "draw": place}


class DataModule(pl.LightningDataModule):
    """Training and validation data.

    Args:
        batch_size: global batch size, over all devices and accumulated micro-batches.
        train: training set.
        validation: held-out set.
        workers: loader processes per device; 0 is best for small data in memory.
        max_per_device: largest micro-batch that fits on a device; larger batches are accumulated.

    Raises:
        ValueError: sizes below 1.
    """

    def __init__(
        self,
        batch_size: int,
        train: Dataset[Sample],
        validation: Dataset[Sample] | None = None,
        workers: int = 0,
        max_per_device: int | None = None,
    ) -> None:
        super().__init__()
        integer(batch_size=batch_size, max_per_device=max_per_device)
        integer(0, MOST, workers=workers)
        self.batch_size, self.train, self.validation = batch_size, train, validation
        self.workers, self.max_per_device = workers, max_per_device
        self.seed, self.start, self.steps = 0, 0, 0

    def accumulate(self, world: int) -> int:
        """Micro-batches per step: the smallest number that fits and divides the batch evenly.

        Raises:
            UserError: the batch size is not divisible by the number of devices.
        """
        if self.batch_size % world:
            raise UserError(f"data.params.batch_size {self.batch_size} is not divisible by {world} devices")
        per_device = self.batch_size // world
        limit = self.max_per_device or per_device
        return next(k for k in range(1, per_device + 1) if per_device % k == 0 and per_device // k <= limit)

    def plan(self, seed: int, start: int, steps: int) -> None:
        """Set the order of the training data, before fit."""
        self.seed, self.start, self.steps = seed, start, steps

    def _order(self, start: int, steps: int) -> StepBatches:
        assert self.trainer is not None
        rank, world = self.trainer.global_rank, self.trainer.world_size
        length = len(self.train)  # type: ignore[arg-type]
        return StepBatches(length, self.batch_size, steps, self.seed, start, rank, world, self.accumulate(world))

    def first_step(self) -> Iterator[Batch]:
        """This process's micro-batches of step 0, before training starts."""
        varied = Varied(self.train, self.seed)
        return (collate([varied[key] for key in keys]) for keys in self._order(0, 1))

    def train_dataloader(self) -> Loader:
        assert self.trainer is not None
        batches = self._order(self.start, self.steps)
        pin = self.trainer.accelerator.__class__.__name__ == "CUDAAccelerator"
        # Lightning iterates it once: its epoch is the rest of the run.
        return Loader(Varied(self.train, self.seed), batch_sampler=batches, collate_fn=collate, pin_memory=pin, **self._worker_options())

    def validation_batches(self, count: int) -> list[Batch]:
        """`count` batches of the validation set, or else of the training set, of at most 64 samples; always the same.

        They are spread over the set and over its classes or folders, and so are the first of them. If fewer fit on a device, there are
        more and smaller batches of the same samples.
        """
        dataset: Any = self.validation if self.validation is not None else self.train
        chosen = spread(len(dataset), min(self.batch_size, 64) * count, kinds(dataset))
        size = min(self.max_per_device or self.batch_size, self.batch_size, 64)
        return [collate([dataset[i] for i in chosen[first : first + size]]) for first in range(0, len(chosen), size)]

    def _worker_options(self) -> dict[str, Any]:
        return {"num_workers": self.workers, "persistent_workers": self.workers > 0, "prefetch_factor": 4 if self.workers else None}
