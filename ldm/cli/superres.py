"""What `scripts/superres.py` does: enlarge images."""

import argparse
import logging
import math
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ldm.cli.batches import Result, number_of, padded_size, rounds
from ldm.cli.job import Job
from ldm.cli.options import image_guide
from ldm.cli.pictures import file_note, pad_to, read_picture
from ldm.data.images import to_tensor
from ldm.data.listing import Listing
from ldm.errors import MissingFile, UserError
from ldm.sampling.options import SamplingOptions

log = logging.getLogger(__name__)


def enlarge_all(flags: argparse.Namespace) -> int:
    """Sample every result and write it; returns the exit code."""
    job = Job.open(flags)
    part = job.part_for("low_res", "low-resolution images")
    channels = job.model.first_stage.image_channels if part.encode_first else part.concat_channels // part.fold**2
    found = files_of(flags.images, job.outdir)
    names, flags.images = list(found), list(found.values())
    unit = job.model.size_multiple // math.gcd(job.model.size_multiple, factor_of(job))
    sizes = [padded_size(read_picture(path, channels), unit) for path in flags.images]  # a wrong image is known before sampling
    large = [(height * factor_of(job), width * factor_of(job)) for height, width in sizes]
    job = job.for_sizes(large)
    check_names(job, names)
    in_windows = {size: job.windows_at(of) for size, of in zip(sizes, large, strict=True)}
    planned = rounds(sizes, flags.n, lambda size: 1 if in_windows[size] else flags.batch)
    said = job.in_windows(large)
    with job.progress(len(planned)) as on_step:
        for results in planned:
            given = {place: read_picture(flags.images[place], channels) for place, _ in results}
            low = torch.cat([pad_to(to_tensor(given[place])[None], unit) for place, _ in results])
            enlarge(job, names, results, given, low, SamplingOptions(tiles=in_windows[sizes[results[0][0]]], on_step=on_step))
    sys.stdout.write(f"{flags.n * len(flags.images)} images in {job.outdir}{said}\n")
    return 0


def check_names(job: Job, names: list[str]) -> None:
    """Whether all results may be written, before there are any.

    Raises:
        UserError: one would overwrite a given image, or a picture that was made with other settings.
    """
    given = {Path(image).resolve() for image in job.flags.images}
    for place in range(len(names)):
        for i in range(job.flags.n):
            name, note = result_of(job, names, (place, i))
            if (job.outdir / name).resolve() in given:
                raise UserError(f"--outdir {job.outdir}: {name} would overwrite the image of that name: name another folder")
            job.check_free(name, note)


def files_of(words: list[str], outdir: Path) -> dict[str, str]:
    """Files as they are named, and all images of a folder in the order of their names; each with the name of its results.

    Earlier results in `outdir`, where that lies in a folder that is named, are left out.

    Raises:
        MissingFile: a folder without images.
        UserError: two images whose results would have one name.
    """
    found: dict[str, str] = {}
    broken: list[str] = []
    for path in map(Path, words):
        inside = images_below(path, outdir, broken) if path.is_dir() else [path.name]
        if not inside:
            raise MissingFile(f"{path}: no image in it" + "".join(f"; {one}" for one in broken[:1]))
        for file in inside:
            name, image = str(PurePosixPath(file).with_suffix("")), str(path / file if path.is_dir() else path)
            if name in found:
                raise UserError(
                    f"{found[name]} and {image}: their results would both be named {name}.png; name a folder for each (--outdir)"
                )
            found[name] = image
    for one in broken:
        log.warning("left out: %s", one)
    return found


def images_below(folder: Path, outdir: Path, broken: list[str]) -> list[str]:
    """Names of the images below a folder, without those in `outdir`, unless that is the folder itself."""
    below = outdir.resolve().relative_to(folder.resolve()).as_posix() if folder.resolve() in outdir.resolve().parents else None
    return [name for name in Listing(folder, broken).log_pictures() if below is None or not name.startswith(f"{below}/")]


def enlarge(
    job: Job, names: list[str], results: list[Result], given: dict[int, Image.Image], low: Tensor, steering: SamplingOptions
) -> None:
    """Results for images of one size; `low` has them padded, `(B, C, h, w)`."""
    flags, factor = job.flags, factor_of(job)
    if flags.guide_scale:
        steering = replace(steering, guides=[image_guide(job, low, steering.tiles)])
    size = (low.shape[2] * factor, low.shape[3] * factor)
    images = job.sample({"low_res": low}, [number_of(result, job.flags.n) for result in results], size, steering)
    for result, image in zip(results, images, strict=True):
        picture = given[result[0]]
        name, note = result_of(job, names, result)
        job.write(name, image[:, : picture.height * factor, : picture.width * factor], note, like=picture)


def result_of(job: Job, names: list[str], result: Result) -> tuple[str, dict[str, Any]]:
    """Name and settings of a result."""
    place, i = result
    file = file_note("low_res", job.flags.images[place])
    note = job.record(**file, candidate=i, noise=number_of(result, job.flags.n), factor=factor_of(job))
    return names[place] + (f"-{i:02d}" if job.flags.n > 1 else "") + ".png", note


def factor_of(job: Job) -> int:
    """How much larger than its low-resolution image a model's image is."""
    part = job.part_for("low_res", "low-resolution images")
    return 1 if part.encode_first else job.model.first_stage.factor * part.enlarge // (part.factor * part.fold)
