"""Images from a layout: labelled boxes in JSON, drawn beside the results in the grid."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import run_script, script_parser  # noqa: E402
from ldm.cli.asked import part_reading, reads, refuse_others  # noqa: E402
from ldm.cli.flags import add_set_flags, add_size_flags  # noqa: E402
from ldm.cli.job import Job  # noqa: E402
from ldm.cli.layouts import asked_layout, read_layouts, read_names  # noqa: E402
from ldm.cli.sets import make_set  # noqa: E402
from ldm.cli.steer import steering_from_flags  # noqa: E402
from ldm.errors import UserError  # noqa: E402

EXAMPLES = """
LAYOUT.json holds one object or a list of them; corners are fractions of width and height:
  {"boxes": [{"label": 3, "box": [0.1, 0.2, 0.5, 0.9]}, {"label": "dog", "box": [0.5, 0.5, 0.9, 0.9]}]}

examples
  python scripts/layout2img.py logs/<run> layout.json --n 4
  python scripts/layout2img.py logs/<run> layouts.json --names classes.json --scale 2 --steps 100
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = script_parser(__doc__, EXAMPLES)
    p.add_argument("layout", metavar="LAYOUT.json", help="boxes of one image, or a list of such objects")
    p.add_argument("--names", metavar="FILE", help='class names: JSON {"name": index} or ["name", ...]; without it labels are numbers')
    p.add_argument("--n", "--n_samples", type=int, default=4, help="images per layout (default: 4)")
    add_size_flags(p)
    add_set_flags(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    if flags.n < 1:
        raise UserError(f"--n {flags.n}: expected at least 1")
    job = Job.open(flags)
    part = part_reading(job.model, "boxes")
    if part is None:
        raise UserError(f"this model reads {reads(job.model)}, not boxes")
    refuse_others(job.model, ("boxes", "box_labels"))
    size = job.size()
    names = read_names(flags.names)
    layouts = read_layouts(flags.layout, names, part.boxes.vocabulary_size - 1, part.boxes.max_objects)
    asked = [one for boxes in layouts for one in [asked_layout(boxes, *size)] * flags.n]
    return make_set(job, asked, len(asked), size, steering_from_flags(job, size))


if __name__ == "__main__":
    sys.exit(run_script(main))
