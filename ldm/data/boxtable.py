"""Millions of boxes in flat arrays, for data sets whose annotations are one long list."""

from array import array

import numpy as np


class BoxTable:
    """Boxes by image: added row by row, then sorted once."""

    def __init__(self) -> None:
        self._image, self._label, self._box = array("q"), array("q"), array("d")
        self._order, self._start = np.zeros(0, np.int64), np.zeros(1, np.int64)

    def add(self, image: int, label: int, box: tuple[float, float, float, float]) -> None:
        """Add a box, xyxy as fractions, of an image."""
        self._image.append(image)
        self._label.append(label)
        self._box.extend(box)

    def sort(self, images: int) -> None:
        """Sort the boxes by images 0 ... images - 1, in the order in which they were added."""
        owner = np.frombuffer(self._image, np.int64) if self._image else np.zeros(0, np.int64)
        self._order = np.argsort(owner, kind="stable")
        self._start = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=images))])

    def counts(self) -> np.ndarray:
        """Boxes per image."""
        return np.diff(self._start)

    def of(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        """Boxes `(n, 4)` and labels `(n,)` of one image."""
        rows = self._order[self._start[image] : self._start[image + 1]]
        if not len(rows):
            return np.zeros((0, 4)), np.zeros(0, np.int64)
        return np.frombuffer(self._box, np.float64).reshape(-1, 4)[rows], np.frombuffer(self._label, np.int64)[rows]
