"""Memory-efficient storage of the names of millions of samples."""

import os
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np


class ShardNames(Sequence[str]):
    """Names of the samples of shards, "shard/key", in the order of the shards.

    The keys are stored in one array per shard: a list of strings would need ten times the memory, and every loader process would get a
    copy, because Python's reference counting writes to each string.

    Args:
        paths: paths of the shards. The name of a shard is its stem; if two are equal, their folders are prepended.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.labels = [path.stem for path in paths]
        if len(set(self.labels)) < len(paths):
            above = os.path.commonpath([path.parent for path in paths])
            self.labels = [path.with_suffix("").relative_to(above).as_posix() for path in paths]
        self._keys: list[np.ndarray] = []
        self._starts = [0]
        self._chosen: np.ndarray | None = None

    def add(self, keys: Sequence[str]) -> None:
        """Add the keys of the next shard."""
        self._keys.append(np.array([key.encode() for key in keys], dtype=bytes))
        self._starts.append(self._starts[-1] + len(keys))

    def keep(self, chosen: np.ndarray) -> None:
        """Keep these samples only, given by numbers `(n,)`, in this order; no shard can be added afterwards."""
        self._chosen = chosen

    def key(self, number: int) -> tuple[int, str]:
        """Shard and key of a sample.

        Raises:
            IndexError: no such sample.
        """
        if not 0 <= number < len(self):
            raise IndexError(number)
        number = number if self._chosen is None else int(self._chosen[number])
        shard = bisect_right(self._starts, number) - 1
        return shard, self._keys[shard][number - self._starts[shard]].decode()

    def __len__(self) -> int:
        return self._starts[-1] if self._chosen is None else len(self._chosen)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        shard, key = self.key(number)
        return f"{self.labels[shard]}/{key}"
