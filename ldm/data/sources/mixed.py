"""Several data sets as one."""

from collections.abc import Hashable, Sequence
from typing import Any

from torch.utils.data import Dataset

from ldm.data.batch import Sample
from ldm.data.order import kinds


class Mixed(Dataset[Sample]):
    """Several data sets in turn: sample i comes from set i mod n, each as often as the others.

    Every set is walked from its start; a short one begins again before the longest ends.

    Args:
        sets: data sets whose samples have the same keys and sizes.

    Raises:
        ValueError: no set, or an empty one.
    """

    def __init__(self, sets: Sequence[Dataset[Sample]]) -> None:
        if not sets or not all(len(one) for one in sets):  # type: ignore[arg-type]
            raise ValueError("Mixed: expected one data set at least, and none that is empty")
        self.sets = list(sets)
        self.length = len(sets) * max(len(one) for one in sets)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.length

    def find(self, index: int) -> tuple[Any, int]:
        """The set of a sample, and its number there."""
        one: Any = self.sets[index % len(self.sets)]
        return one, index // len(self.sets) % len(one)

    def kinds(self) -> Sequence[Hashable]:
        """What the samples are of, in each set for itself: see `ldm.data.order.spread`."""
        known = [kinds(one) for one in self.sets]
        places = (divmod(i, len(self.sets)) for i in range(self.length))
        return [(k, known[k][at % len(known[k])] if len(known[k]) else None) for at, k in places]

    def __getitem__(self, index: int) -> Sample:
        one, place = self.find(index)
        return one[place]

    def varied(self, index: int, seed: int, place: int) -> Sample:
        """Sample `index` as it is at a place in the run's order."""
        one, at = self.find(index)
        return one.varied(at, seed, place) if hasattr(one, "varied") else one[at]
