"""The tiles of `--window` and `--overlap`, and the automatic ones of images larger than in training."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace

from ldm.checkpoint.source import trained_size
from ldm.cli.job import Job
from ldm.diffusion.tiling import Tiles
from ldm.errors import UserError

log = logging.getLogger(__name__)
UNKNOWN_SIDE = 512  # of tiles in pixels, if the config's data does not give a size: one on which most of the paper's models work
OVERLAP = 0.25  # default overlap of automatic tiles, as a share: a quarter of it is context, and half a tile would cost 3 times more
Size = tuple[int, int]  # height and width in pixels


def tiles_from_flags(job: Job) -> Tiles | None:
    """The tiles of the flags.

    Raises:
        UserError: sizes that the model does not support.
    """
    side, overlap = job.flags.window, job.flags.overlap
    if side is None:
        if overlap is not None:
            raise UserError("--overlap goes with --window")
        return None
    if "boxes" in job.model.conditioner.reads:  # every tile would be conditioned on the whole layout
        raise UserError("--window: boxes are positions in the whole image, and each tile would show them all: leave it out")
    f, unit = job.model.first_stage.factor, job.model.size_multiple
    if side < 2 * unit and overlap is None:
        raise UserError(f"--window {side}: expected at least {2 * unit}, so that half of it can overlap")
    overlap = side // (2 * unit) * unit if overlap is None else overlap
    if side % unit or overlap % unit:
        raise UserError(f"--window {side} --overlap {overlap}: this model needs multiples of {unit}")
    try:
        return Tiles(side // f, overlap // f, job.flags.batch, unit // f, job.steps.piece)
    except ValueError as error:
        raise UserError(f"--window {side} --overlap {overlap}: {error}") from error


def tiles_at(job: Job, size: Size) -> Tiles | None:
    """The tiles for images of one size; None if one tile is enough."""
    tiles = tiles_from_flags(job)
    return None if tiles is None or max(size) <= job.flags.window else tiles


def with_automatic_tiles(job: Job, sizes: Sequence[Size]) -> tuple[Job, str]:
    """The job for images of these sizes: in tiles if one is larger than in training, unless flags say otherwise; and a note on it.

    Raises:
        UserError: `--whole` with flags of tiles.
    """
    flags, unit = job.flags, job.model.size_multiple
    trained = max(trained_size(job.loaded.config) or [UNKNOWN_SIDE])
    side = max(-(-trained // unit), 2) * unit
    if flags.whole and (flags.window, flags.overlap) != (None, None):
        raise UserError("--whole disables tiles: leave out --window and --overlap")
    chosen = flags.whole or flags.window is not None or flags.overlap is not None
    count = sum(max(size) > side for size in sizes)
    if chosen or not count or "boxes" in job.model.conditioner.reads:
        return job, ""
    overlap = max(1, round(side * OVERLAP / unit)) * unit
    note = (
        f"{count} of {len(sizes)} {'is' if count == 1 else 'are'} larger than the {trained} pixels of training: "
        f"in tiles of {side} that overlap by {overlap} (--whole: at once, with more memory)"
    )
    log.info("%s", note)  # before sampling, because it takes long, and with the result
    return replace(job, flags=argparse.Namespace(**{**vars(flags), "window": side, "overlap": overlap})), note
