"""Which samples step n trains on: a function of (seed, n), so that a run can continue anywhere and on any devices."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from ldm.seeding import generator

Key = tuple[int, int]  # (index, place in the run's order); place // batch size is the training step


class StepBatches(Sampler[list[Key]]):
    """Batches of this process, as lists of (index, place).

    Samples come in a fresh permutation per epoch; a batch may reach from one epoch into the next, so none is dropped.
    Every step takes `batch_size` samples, dealt out over devices and accumulation.

    Args:
        length: of the data set.
        batch_size: global.
        steps: last training step (exclusive).
        seed: of the run.
        start: first training step.
        rank, world: this process and their number.
        accumulate: micro-batches per step and process.

    Raises:
        ValueError: a batch size that does not divide evenly, or no data.
    """

    def __init__(
        self, length: int, batch_size: int, steps: int, seed: int, start: int = 0, rank: int = 0, world: int = 1, accumulate: int = 1
    ) -> None:
        if length < 1:
            raise ValueError("the data set is empty")
        if batch_size % (world * accumulate):
            raise ValueError(f"batch size {batch_size} cannot be dealt out to {world} devices x {accumulate} accumulation steps")
        self.length, self.batch_size, self.steps, self.seed, self.start = length, batch_size, steps, seed, start
        self.rank, self.world, self.accumulate = rank, world, accumulate
        self._epoch, self._order = -1, torch.empty(0)

    def __len__(self) -> int:
        return max(0, self.steps - self.start) * self.accumulate

    def indices(self, step: int) -> list[int]:
        """The global batch of one step."""
        first = step * self.batch_size
        return [self._index(position) for position in range(first, first + self.batch_size)]

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, self.length)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(self.length, generator=generator(self.seed, "order", epoch))
        return int(self._order[place])

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.start, self.steps):
            batch = list(zip(self.indices(step), range(step * self.batch_size, (step + 1) * self.batch_size), strict=True))
            for k in range(self.accumulate):
                yield batch[k * self.world + self.rank :: self.world * self.accumulate]
