"""Images from a layout: labelled boxes in JSON, drawn beside the results in the grid."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script, script_parser  # noqa: E402
from ldm.cli.flags import add_condition_flags, add_set_flags, add_size_flags  # noqa: E402
from ldm.cli.parser import count  # noqa: E402

EXAMPLES = """
LAYOUT.json has one object or a list of them; corners are fractions of width and height:
  {"boxes": [{"label": 3, "box": [0.1, 0.2, 0.5, 0.9]}, {"label": "dog", "box": [0.5, 0.5, 0.9, 0.9]}]}

examples
  python scripts/layout2img.py logs/<run> layout.json --n 4
  python scripts/layout2img.py logs/<run> layouts.json --names classes.json --scale 2 --steps 100
  python scripts/layout2img.py logs/<run> layout.json --prompt "a dog on a lawn"    a model that reads captions as well
"""


def parser() -> Parser:
    """The command line."""
    p = script_parser(__doc__, EXAMPLES)
    p.add_argument("layout", metavar="LAYOUT.json", help="boxes of one image, or a list of such objects")
    p.add_argument("--names", metavar="FILE", help='class names: JSON {"name": index} or ["name", ...] (default: those in the run)')
    p.add_argument("--n", "--n_samples", type=count, default=4, help="images per layout (default: 4)")
    add_condition_flags(p)
    add_size_flags(p)
    add_set_flags(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    from ldm.cli.condition_flags import conditions_from_flags, each_with
    from ldm.cli.job import Job
    from ldm.cli.layouts import layout, read_layouts, read_names
    from ldm.cli.sets import sample_set
    from ldm.data.classes import Classes

    job = Job.open(flags)
    part = job.conditioner_for("boxes", "boxes")
    others = conditions_from_flags(flags, job.model, job.classes(), also=part.reads)
    size = job.size()
    classes = Classes(part.boxes.classes, read_names(flags.names) or job.names("boxes"))
    layouts = read_layouts(flags.layout, classes, part.boxes.max_objects)
    return sample_set(job, each_with([layout(boxes, *size, classes) for boxes in layouts], others, flags.n), size)


if __name__ == "__main__":
    sys.exit(run_script(main))
