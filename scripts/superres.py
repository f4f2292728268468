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
from ldm.cli.flags import add_guider_flags, add_window_flags  # noqa: E402
from ldm.cli.job import Job  # noqa: E402
from ldm.cli.pictures import pad_to, read_picture  # noqa: E402
from ldm.cli.steer import image_guide  # noqa: E402
from ldm.data.images import to_tensor  # noqa: E402
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
    p.add_argument("images", nargs="+", metavar="IMAGE", help="images of any size")
    p.add_argument("--n", "--n_samples", type=int, default=1, help="results per image (default: 1)")
    add_window_flags(p)
    add_guider_flags(p, scale=0.0)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    job = Job.open(flags)
    part = job.part_for("low_res", "low-resolution images")
    channels = job.model.first_stage.image_channels if part.encode_first else part.concat_channels
    pictures = [read_picture(path, channels) for path in flags.images]
    batches = -(-flags.n // flags.batch) * len(pictures)
    with job.progress(batches) as on_step:
        for place, (path, picture) in enumerate(zip(flags.images, pictures, strict=True)):
            enlarge(job, part, place, Path(path), picture, Steering(windows=job.windows(), on_step=on_step))
    sys.stdout.write(f"{flags.n * len(pictures)} images in {job.outdir}\n")
    return 0


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
            job.write(f"{name}.png", cut, job.record(low_res=str(path), candidate=i, factor=factor))


def factor_of(job: Job, part: Any) -> int:
    """How much larger than its low-resolution image a model's image is."""
    return 1 if part.encode_first else job.model.first_stage.factor * part.enlarge // part.factor


if __name__ == "__main__":
    sys.exit(run_script(main))
