"""Images from label maps (PNGs of class indices), at any size that the model fits; the grid shows the map beside the result."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import run_script, script_parser  # noqa: E402
from ldm.cli.flags import add_condition_flags, add_set_flags, add_size_flags  # noqa: E402
from ldm.errors import UserError  # noqa: E402

EXAMPLES = """
A label map is an 8-bit, 16-bit or palette PNG whose pixels are class indices; 255 is unlabelled. Images get its size, or the
one of --height and --width, to which it is scaled.

examples
  python scripts/semantic.py logs/<run> map.png --n 4
  python scripts/semantic.py logs/<run> map.png --height 512 --width 1024 --window 256 --batch 4
  python scripts/semantic.py logs/<run> map.png --prompt "at dusk"                  a model that reads captions as well
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = script_parser(__doc__, EXAMPLES)
    p.add_argument("maps", nargs="+", metavar="MAP.png", help="label maps, all of one size unless --height and --width are given")
    p.add_argument("--n", "--n_samples", type=int, default=4, help="images per map (default: 4)")
    add_condition_flags(p)
    add_size_flags(p, "the map's", whole=True)
    add_set_flags(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    from ldm.cli.job import Job
    from ldm.cli.labelmaps import asked_map
    from ldm.cli.options import steering_from_flags
    from ldm.cli.requests import classes_and_prompts, each_with
    from ldm.cli.sets import make_set

    job = Job.open(flags)
    part = job.part_for("segmentation", "label maps")
    others = classes_and_prompts(flags, job.model, also=part.reads)
    asked = [asked_map(path, part.num_classes, flags.height, flags.width) for path in flags.maps]
    shapes = [tuple(one.entries["segmentation"].shape) for one in asked]
    if len(set(shapes)) > 1:
        raise UserError(f"the label maps differ in size ({', '.join(f'{w}x{h}' for h, w in shapes)}): give --height and --width")
    height, width = shapes[0]
    job.model.latent_shape(height, width)
    job = job.for_sizes([(height, width)])
    said = job.in_windows([(height, width)] * len(flags.maps))
    asked = each_with(asked, others, flags.n)
    code = make_set(job, asked, len(asked), (height, width), steering_from_flags(job, (height, width)))
    sys.stdout.write(f"{said.removeprefix('; ')}\n" if said else "")
    return code


if __name__ == "__main__":
    sys.exit(run_script(main))
