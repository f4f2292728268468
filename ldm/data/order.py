"""The samples of step n, as a function of (seed, n), so that a run can be resumed at any step and on any devices; and small
representative subsets."""

import heapq
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from itertools import count
from typing import Any

import torch
from torch.utils.data import Sampler

from ldm.rng import generator

Draw = tuple[int, int]  # (index, position in the run's order); position // batch size is the training step


class StepBatches(Sampler[list[Draw]]):
    """Batches of this process, as lists of (index, position).

    Each epoch has a new permutation; a batch may span two epochs, so no sample is dropped. Every step uses `batch_size` samples,
    distributed over devices and accumulation steps.

    Args:
        length: length of the data set.
        batch_size: global batch size.
        steps: last training step (exclusive).
        seed: seed of the run.
        start: first training step.
        rank, world: rank of this process and number of processes.
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
            raise ValueError(f"batch size {batch_size} is not divisible by {world} devices x {accumulate} accumulation steps")
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
    """`n` numbers below `length`, or all of them: deterministic, and any first few of them are spread over the range, too.

    Every kind occurs once before any occurs twice; after that, in proportion to its number of samples.

    Args:
        kinds: kind of each number, such as its class; empty if all are of the same kind.
    """
    members: dict[Hashable, Sequence[int]] = defaultdict(list)
    for number, kind in enumerate(kinds):
        members[kind].append(number)  # type: ignore[attr-defined]
    groups = list(members.values()) or [range(length)]
    # (share of the kind that was taken, order of the kind, kind, its numbers in order)
    heap = [(0.0, place, groups[k], halving(len(groups[k]))) for place, k in enumerate(halving(len(groups)))]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < n:
        taken, place, group, positions = heap[0]
        position = next(positions, None)
        if position is None:
            heapq.heappop(heap)
            continue
        chosen.append(group[position])
        heapq.heapreplace(heap, (taken + 1 / len(group), place, group, positions))
    return chosen


def kinds(dataset: Any) -> Sequence[Hashable]:
    """Kinds of the samples of a data set, such as classes or folders, for `spread`; empty if unknown."""
    method = getattr(dataset, "kinds", None)
    return method() if callable(method) else ()


def halving(length: int) -> Iterator[int]:
    """The numbers below `length`, each once, in the order 0, 1/2, 1/4, 3/4, 1/8 and so on of `length`."""
    seen: set[int] = set()
    for i in count():
        if len(seen) == length:
            return
        share = int(f"{i:b}"[::-1], 2) / 2 ** len(f"{i:b}")  # the reversed bits of i as a binary fraction
        number = int(share * length)
        if number not in seen:
            seen.add(number)
            yield number
