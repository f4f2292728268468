"""Several results for each of several images of any size: in batches of one size, in tiles if images are large."""

import sys
from collections.abc import Callable, Sequence
from itertools import groupby

from PIL import Image

from ldm.cli.job import Job
from ldm.cli.tiles import Size, tiles_at
from ldm.sampling.options import SamplingOptions

Result = tuple[int, int]  # index of the image, number of the result for it


def padded_size(picture: Image.Image, multiple: int) -> Size:
    """Height and width, enlarged to multiples of `multiple`."""
    return picture.height + (-picture.height) % multiple, picture.width + (-picture.width) % multiple


def number_of(result: Result, n: int) -> int:
    """Number of a result among all of a command, `n` for each image, which determines its noise."""
    return result[0] * n + result[1]


def batches(sizes: Sequence[Size], n: int, batch: Callable[[Size], int]) -> list[list[Result]]:
    """All results in order, `n` for each image, at most `batch(size)` at a time and of one size."""
    results = [(i, k) for i in range(len(sizes)) for k in range(n)]
    planned: list[list[Result]] = []
    for size, group in groupby(results, key=lambda result: sizes[result[0]]):
        alike = list(group)
        planned += [alike[first : first + batch(size)] for first in range(0, len(alike), batch(size))]
    return planned


def restore_all(job: Job, sizes: Sequence[Size], note: str, restore: Callable[[list[Result], SamplingOptions], None]) -> int:
    """Call `restore` for every batch of the results; `sizes` are those of the results, padded; `note` is added to the last line."""
    n, tiles = job.flags.n, {size: tiles_at(job, size) for size in sizes}
    planned = batches(sizes, n, lambda size: job.flags.batch if tiles[size] is None else 1)
    with job.progress(len(planned)) as on_step:
        for results in planned:
            restore(results, SamplingOptions(tiles=tiles[sizes[results[0][0]]], on_step=on_step))
    sys.stdout.write(f"{n * len(sizes)} images in {job.outdir}{note and f'; {note}'}\n")
    return 0
