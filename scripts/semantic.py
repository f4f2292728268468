"""Images from label maps (PNGs of class indices), at any size that the model fits; the grid shows the map beside the result."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script, script_parser  # noqa: E402
from ldm.cli.flags import add_condition_flags, add_set_flags, add_size_flags  # noqa: E402
from ldm.cli.parser import count  # noqa: E402
from ldm.errors import UserError  # noqa: E402

EXAMPLES = """
A label map is an 8-bit, 16-bit or palette PNG whose pixels are class indices; 255 is unlabelled. Images have its size, or that
of --height and --width, to which it is scaled.

examples
  python scripts/semantic.py logs/<run> map.png --n 4
  python scripts/semantic.py logs/<run> map.png --height 512 --width 1024 --window 256 --batch 4
  python scripts/semantic.py logs/<run> map.png --prompt "at dusk"                  a model that reads captions as well
"""


def parser() -> Parser:
    """The command line."""
    p = script_parser(__doc__, EXAMPLES)
    p.add_argument("maps", nargs="+", metavar="MAP.png", help="label maps, all of one size unless --height and --width are given")
    p.add_argument("--n", "--n_samples", type=count, default=4, help="images per map (default: 4)")
    add_condition_flags(p)
    add_size_flags(p, "the map's", whole=True)
    add_set_flags(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    from ldm.cli.condition_flags import conditions_from_flags, each_with
    from ldm.cli.job import Job
    from ldm.cli.label_maps import label_map
    from ldm.cli.sets import sample_set
    from ldm.cli.tiles import with_automatic_tiles

    job = Job.open(flags)
    part = job.conditioner_for("segmentation", "label maps")
    others = conditions_from_flags(flags, job.model, job.classes(), also=part.reads)
    maps = [label_map(path, part.num_classes, flags.height, flags.width) for path in flags.maps]
    sizes = [tuple(one.entries["segmentation"].shape) for one in maps]
    if len(set(sizes)) > 1:
        raise UserError(f"the label maps differ in size ({', '.join(f'{w}x{h}' for h, w in sizes)}): give --height and --width")
    job.model.latent_shape(*sizes[0])
    job, note = with_automatic_tiles(job, sizes)
    code = sample_set(job, each_with(maps, others, flags.n), sizes[0])
    sys.stdout.write(f"{note}\n" if note else "")
    return code


if __name__ == "__main__":
    sys.exit(run_script(main))
