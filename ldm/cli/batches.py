"""Several results for each of several images: in batches, whose images have one size."""

from collections.abc import Callable, Sequence
from itertools import groupby

from PIL import Image

Result = tuple[int, int]  # place of the image among those given, number of the result for it


def padded_size(picture: Image.Image, multiple: int) -> tuple[int, int]:
    """Height and width, enlarged until `multiple` divides them."""
    return picture.height + (-picture.height) % multiple, picture.width + (-picture.width) % multiple


def number_of(result: Result, n: int) -> int:
    """Of a result among all of a command, `n` for each image: its noise follows from it."""
    return result[0] * n + result[1]


def rounds(sizes: Sequence[tuple[int, int]], n: int, batch: Callable[[tuple[int, int]], int]) -> list[list[Result]]:
    """All results in their order, `n` for each image, at most `batch(size)` at a time and only of one size at a time."""
    results = [(place, i) for place in range(len(sizes)) for i in range(n)]
    planned: list[list[Result]] = []
    for size, group in groupby(results, key=lambda result: sizes[result[0]]):
        alike = list(group)
        planned += [alike[first : first + batch(size)] for first in range(0, len(alike), batch(size))]
    return planned
