"""Which samples step n trains on: a function of (seed, n), so that a run can continue anywhere and on any devices; and which few
samples stand for all."""

import heapq
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from itertools import count
from typing import Any

import torch
from torch.utils.data import Sampler

from ldm.rng import generator

Draw = tuple[int, int]  # (index, place in the run's order); place // batch size is the training step


class StepBatches(Sampler[list[Draw]]):
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

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in range(self.start, self.steps):
            batch = list(zip(self.indices(step), range(step * self.batch_size, (step + 1) * self.batch_size), strict=True))
            for k in range(self.accumulate):
                yield batch[k * self.world + self.rank :: self.world * self.accumulate]


def spread(length: int, n: int, kinds: Sequence[Hashable] = ()) -> list[int]:
    """`n` numbers below `length`, or all of them: always the same, and the first of them spread over the whole, too.

    Every kind has its turn before one has a second; from then on their turns are in proportion to their samples.

    Args:
        kinds: for each number the kind that it is of, as a class; empty: all are of one.
    """
    members: dict[Hashable, Sequence[int]] = defaultdict(list)
    for number, kind in enumerate(kinds):
        members[kind].append(number)  # type: ignore[attr-defined]
    groups = list(members.values()) or [range(length)]
    # (how much of the kind was taken, place of the kind, kind, its numbers in an order of their own)
    waiting = [(0.0, place, groups[k], halving(len(groups[k]))) for place, k in enumerate(halving(len(groups)))]
    heapq.heapify(waiting)
    chosen: list[int] = []
    while waiting and len(chosen) < n:
        taken, place, group, turns = waiting[0]
        turn = next(turns, None)
        if turn is None:
            heapq.heappop(waiting)
            continue
        chosen.append(group[turn])
        heapq.heapreplace(waiting, (taken + 1 / len(group), place, group, turns))
    return chosen


def kinds(dataset: Any) -> Sequence[Hashable]:
    """What the samples of a data set are of, as classes or folders, for `spread`; empty where it does not say."""
    told = getattr(dataset, "kinds", None)
    return told() if callable(told) else ()


def halving(length: int) -> Iterator[int]:
    """The numbers below `length`, each once: 0, a half, a quarter, three quarters, an eighth and so on of the whole."""
    seen: set[int] = set()
    for i in count():
        if len(seen) == length:
            return
        share = int(f"{i:b}"[::-1], 2) / 2 ** len(f"{i:b}")  # the bits of i behind the point, mirrored
        number = int(share * length)
        if number not in seen:
            seen.add(number)
            yield number
