"""What `scripts/superres.py` does: enlarge images."""

import argparse
import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from ldm.cli.job import Job
from ldm.cli.options import image_guide
from ldm.cli.pictures import file_note, pad_to, read_picture
from ldm.cli.restoring import Result, number_of, padded_size, restore_all
from ldm.cli.tiles import with_automatic_tiles
from ldm.data.images import to_tensor
from ldm.data.listing import Listing
from ldm.errors import MissingFile, UserError
from ldm.sampling.options import SamplingOptions

log = logging.getLogger(__name__)


@dataclass
class Enlargement:
    """Images to enlarge with a model, of `channels`, `factor` times; low-resolution sides must be multiples of `unit`."""

    job: Job
    names: list[str]
    paths: list[str]
    channels: int
    factor: int
    unit: int

    def result_of(self, result: Result) -> tuple[str, dict[str, Any]]:
        """Name and settings of a result."""
        (i, k), n = result, self.job.flags.n
        file = file_note("low_res", self.paths[i])
        return self.names[i] + (f"-{k:02d}" if n > 1 else "") + ".png", self.job.record(
            **file, candidate=k, noise=number_of(result, n), factor=self.factor
        )

    def check_names(self) -> None:
        """Check that all results may be written.

        Raises:
            UserError: one would overwrite a given image, or a picture that was made with other settings.
        """
        given = {Path(path).resolve() for path in self.paths}
        for i in range(len(self.paths)):
            for k in range(self.job.flags.n):
                name, settings = self.result_of((i, k))
                if (self.job.outdir / name).resolve() in given:
                    raise UserError(f"--outdir {self.job.outdir}: {name} would overwrite the image of that name: name another folder")
                self.job.check_free(name, settings)

    def enlarge(self, results: list[Result], options: SamplingOptions) -> None:
        """Write results for images of one size."""
        job, factor = self.job, self.factor
        given = {i: read_picture(self.paths[i], self.channels) for i, _ in results}
        low = torch.cat([pad_to(to_tensor(given[i])[None], self.unit) for i, _ in results])
        if job.flags.guide_scale:
            options = replace(options, guides=[image_guide(job, low, options.tiles)])
        numbers = [number_of(result, job.flags.n) for result in results]
        images = job.sample({"low_res": low}, numbers, (low.shape[2] * factor, low.shape[3] * factor), options)
        for result, image in zip(results, images, strict=True):
            picture = given[result[0]]
            name, settings = self.result_of(result)
            job.write(name, image[:, : picture.height * factor, : picture.width * factor], settings, like=picture)


def enlarge_all(flags: argparse.Namespace) -> int:
    """Sample every result and write it; returns the exit code."""
    job = Job.open(flags)
    part = job.conditioner_for("low_res", "low-resolution images")
    first_stage, multiple = job.model.first_stage, job.model.size_multiple
    channels = first_stage.image_channels if part.encode_first else part.concat_channels // part.fold**2
    factor = 1 if part.encode_first else first_stage.factor * part.enlarge // (part.factor * part.fold)
    unit = multiple // math.gcd(multiple, factor)
    files = files_of(flags.images, job.outdir)
    small = [padded_size(read_picture(path, channels), unit) for path in files.values()]  # errors in images are reported before sampling
    sizes = [(height * factor, width * factor) for height, width in small]
    job, note = with_automatic_tiles(job, sizes)
    images = Enlargement(job, list(files), list(files.values()), channels, factor, unit)
    images.check_names()
    return restore_all(job, sizes, note, images.enlarge)


def files_of(words: list[str], outdir: Path) -> dict[str, str]:
    """Files in the order of the command line, folders expanded to their images in the order of names; by the names of their results.

    Earlier results in `outdir` are left out if it is inside one of the folders.

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
