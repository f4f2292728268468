"""Several data sets combined."""

from collections.abc import Hashable, Sequence
from typing import Any

from torch.utils.data import Dataset

from ldm.data.batch import Sample
from ldm.data.order import kinds


class Mixed(Dataset[Sample]):
    """Several data sets in turn: sample i is from set i mod n, so that all are used equally often.

    Every set is read from its start; a shorter one repeats until the longest ends.

    Args:
        sets: data sets whose samples have the same keys and sizes.

    Raises:
        ValueError: no set, or an empty one.
    """

    def __init__(self, sets: Sequence[Dataset[Sample]]) -> None:
        if not sets or not all(len(one) for one in sets):  # type: ignore[arg-type]
            raise ValueError("Mixed: expected at least one data set, and no empty one")
        self.sets = self.parts = list(sets)
        self.length = len(sets) * max(len(one) for one in sets)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.length

    def find(self, index: int) -> tuple[Any, int]:
        """The set of a sample, and its index there."""
        one: Any = self.sets[index % len(self.sets)]
        return one, index // len(self.sets) % len(one)

    def kinds(self) -> Sequence[Hashable]:
        """Kinds of the samples, separate for each set, see `ldm.data.order.spread`."""
        known = [kinds(one) for one in self.sets]
        places = (divmod(i, len(self.sets)) for i in range(self.length))
        return [(k, known[k][at % len(known[k])] if len(known[k]) else None) for at, k in places]

    def __getitem__(self, index: int) -> Sample:
        one, place = self.find(index)
        return one[place]

    def varied(self, index: int, seed: int, place: int) -> Sample:
        """Sample `index` at a position in the run's order."""
        one, at = self.find(index)
        return one.varied(at, seed, place) if hasattr(one, "varied") else one[at]
