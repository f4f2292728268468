"""Fill holes in images: pairs x.png and x_mask.png of a folder, or any images with generated masks.

Known pixels come out as they went in, to the bit.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from PIL import Image  # noqa: E402

from ldm.cli import run_script, script_parser  # noqa: E402
from ldm.cli.asked import Asked, classes_and_prompts, part_reading, reads, together  # noqa: E402
from ldm.cli.flags import add_condition_flags, add_window_flags  # noqa: E402
from ldm.cli.job import Job  # noqa: E402
from ldm.cli.pairs import Pair, make_pairs, pasted, read_pairs  # noqa: E402
from ldm.cli.pictures import pad_to, write_png  # noqa: E402
from ldm.data.images import to_image, to_tensor  # noqa: E402
from ldm.data.masks import Kind  # noqa: E402
from ldm.errors import UserError  # noqa: E402
from ldm.generation import size_multiple  # noqa: E402
from ldm.steering import Steering  # noqa: E402

EXAMPLES = """
The folder holds images and, for each, a mask of the same size with "_mask" added to its name: photo.jpg and photo_mask.png.
White (from half white on) is the hole. Images are read as 8 bit. With --known, a cell of the latent is free as soon as one of
its pixels lies in the hole; the others are put back, noised, before every step.

examples
  python scripts/inpaint.py logs/<run> --indir inputs --outdir outputs/inpainted --steps 50
  python scripts/inpaint.py logs/<run> --indir inputs --n 4                        four candidates per image
  python scripts/inpaint.py logs/<run> --indir photos --masks thick                images without masks; the masks are written too
  python scripts/inpaint.py logs/<unconditional run> --indir inputs --known        a model that was not trained for it
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = script_parser(__doc__, EXAMPLES)
    p.add_argument("--indir", required=True, metavar="DIR", help="folder with x.png and x_mask.png")
    p.add_argument("--masks", choices=get_args(Kind), help="make the masks: all images of the folder, with holes of this kind")
    p.add_argument("--n", "--n_samples", type=int, default=1, help="candidates per image (default: 1)")
    p.add_argument("--known", action="store_true", help="put the known region back, noised, before every step: for any model")
    add_condition_flags(p)
    add_window_flags(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    if Path(flags.indir).resolve() == Path(flags.outdir).resolve():
        raise UserError(f"--outdir {flags.outdir}: results would overwrite the images of --indir")
    job = Job.open(flags)
    reads_mask = part_reading(job.model, "masked_image") is not None or part_reading(job.model, "mask") is not None
    if not reads_mask and not flags.known:
        raise UserError(f"this model reads {reads(job.model)}, not masks: --known inpaints with a model that was not trained for it")
    asked = classes_and_prompts(flags, job.model, also=("mask", "masked_image"))
    pairs = asked_pairs(job, Path(flags.indir))
    windows = job.windows()
    with job.progress(-(-flags.n // flags.batch) * len(pairs)) as on_step:
        for place, pair in enumerate(pairs):
            fill(job, pair, place, asked, Steering(windows=windows, on_step=on_step))
    sys.stdout.write(f"{flags.n * len(pairs)} images in {job.outdir}\n")
    return 0


def asked_pairs(job: Job, folder: Path) -> list[Pair]:
    """The folder's pairs, or its images with generated masks, which are then written to the output folder."""
    flags, channels = job.flags, job.model.first_stage.image_channels
    if flags.masks is None:
        return read_pairs(folder, channels)
    pairs = make_pairs(folder, channels, flags.masks, flags.seed)
    for pair in pairs:
        write_png(job.outdir / f"{pair.name}_mask.png", Image.fromarray(pair.hole), {"masks": flags.masks, "seed": flags.seed})
    return pairs


def fill(job: Job, pair: Pair, place: int, asked: list[Asked], steering: Steering) -> None:
    """All candidates for one image, the `place`-th of the folder."""
    multiple = size_multiple(job.model)
    hole = pad_to(torch.from_numpy(pair.hole).float()[None, None], multiple, 0.0)
    image = pad_to(to_tensor(pair.image)[None], multiple)
    if job.flags.known:
        steering = replace(steering, known=image, hole=hole)
    masked = torch.where(hole > 0, -1.0, image)  # the hole is black, as the original makes it
    for first in range(0, job.flags.n, job.flags.batch):
        candidates = range(first, min(first + job.flags.batch, job.flags.n))
        numbers = [place * job.flags.n + i for i in candidates]
        batch = together([asked[i % len(asked)] for i in numbers])
        batch |= {key: x.expand(len(numbers), -1, -1, -1) for key, x in (("mask", hole), ("masked_image", masked))}
        images = job.sample(batch, numbers, (image.shape[2], image.shape[3]), steering)
        for i, number, sampled in zip(candidates, numbers, images, strict=True):
            name = pair.name + (f"-{i:02d}" if job.flags.n > 1 else "")
            note = {**asked[number % len(asked)].note, "candidate": i, "known": job.flags.known}
            job.write(f"{name}.png", pasted(pair, to_image(sampled)), job.record(image=pair.name, **note))


if __name__ == "__main__":
    sys.exit(run_script(main))
