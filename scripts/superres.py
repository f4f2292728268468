"""Enlarge images of any size with a super-resolution model."""

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PIL import Image  # noqa: E402
from torch import Tensor  # noqa: E402

from ldm.cli import run_script, script_parser  # noqa: E402
from ldm.cli.asked import part_reading, reads, refuse_others  # noqa: E402
from ldm.cli.flags import add_guider_flags, add_window_flags  # noqa: E402
from ldm.cli.job import Job  # noqa: E402
from ldm.cli.pictures import pad_to, read_picture, write_png  # noqa: E402
from ldm.cli.steer import image_guide  # noqa: E402
from ldm.data.images import SUFFIXES, to_tensor  # noqa: E402
from ldm.data.reading import files_below  # noqa: E402
from ldm.errors import MissingFile, UserError  # noqa: E402
from ldm.generation import size_multiple  # noqa: E402
from ldm.steering import Steering  # noqa: E402

EXAMPLES = """
Every image is enlarged by the factor that the model was trained for; what has to be added to its borders is cut off again.

examples
  python scripts/superres.py logs/<run> small.png --steps 100
  python scripts/superres.py logs/<run> a.jpg b.jpg --n 3 --outdir outputs/large
  python scripts/superres.py logs/<run> large.jpg --window 512 --batch 4          memory for a window at a time
  python scripts/superres.py logs/<run> small.png --guide-scale 1 --guider l2     results that reduce to the input (App. C)
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = script_parser(__doc__, EXAMPLES)
    p.add_argument("images", nargs="+", metavar="IMAGE", help="images of any size, or folders of them")
    p.add_argument("--n", "--n_samples", type=int, default=1, help="results per image (default: 1)")
    add_window_flags(p)
    add_guider_flags(p, scale=0.0)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    if flags.n < 1:
        raise UserError(f"--n {flags.n}: expected at least 1")
    job = Job.open(flags)
    part = part_reading(job.model, "low_res")
    if part is None:
        raise UserError(f"this model reads {reads(job.model)}, not low-resolution images")
    refuse_others(job.model, ("low_res",))
    channels = job.model.first_stage.image_channels if part.encode_first else part.concat_channels
    paths = files_of(flags.images)
    pictures = [read_picture(path, channels) for path in paths]
    batches = -(-flags.n // flags.batch) * len(paths)
    with job.progress(batches) as on_step:
        for place, (path, picture) in enumerate(zip(paths, pictures, strict=True)):
            enlarge(job, part, place, path, picture, Steering(windows=job.windows(), on_step=on_step))
    sys.stdout.write(f"{flags.n * len(paths)} images in {job.outdir}\n")
    return 0


def files_of(words: list[str]) -> list[Path]:
    """Files as they are named, and all images of a folder in the order of their names.

    Raises:
        MissingFile: a folder without images.
    """
    found: list[Path] = []
    for path in map(Path, words):
        inside = [path / name for name in sorted(files_below(path, SUFFIXES))] if path.is_dir() else [path]
        if not inside:
            raise MissingFile(f"{path}: no image in it")
        found += inside
    return found


def enlarge(job: Job, part: Any, place: int, path: Path, picture: Image.Image, steering: Steering) -> None:
    """All results for one image, the `place`-th of the command line."""
    factor = factor_of(job, part)
    low = to_tensor(picture)[None]
    multiple = size_multiple(job.model)
    padded = pad_to(low, multiple // math.gcd(multiple, factor))
    if job.flags.guide_scale:
        steering = replace(steering, guides=[image_guide(job, padded, steering.windows)])
    size = (padded.shape[2] * factor, padded.shape[3] * factor)
    for first in range(0, job.flags.n, job.flags.batch):
        candidates = range(first, min(first + job.flags.batch, job.flags.n))
        batch = {"low_res": padded.expand(len(candidates), -1, -1, -1)}
        images = job.sample(batch, [place * job.flags.n + i for i in candidates], size, steering)
        for i, image in zip(candidates, images, strict=True):
            cut: Tensor = image[:, : low.shape[2] * factor, : low.shape[3] * factor]
            name = f"{place:03d}-{path.stem}" + (f"-{i:02d}" if job.flags.n > 1 else "")
            write_png(job.outdir / f"{name}.png", cut, job.record(low_res=str(path), candidate=i, factor=factor))


def factor_of(job: Job, part: Any) -> int:
    """How much larger than its low-resolution image a model's image is."""
    return 1 if part.encode_first else job.model.first_stage.factor * part.enlarge // part.factor


if __name__ == "__main__":
    sys.exit(run_script(main))
