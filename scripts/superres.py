"""Enlarge images of any size with a super-resolution model."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script, script_parser  # noqa: E402
from ldm.cli.flags import add_guider_flags, add_tile_flags  # noqa: E402
from ldm.cli.parser import count  # noqa: E402
from ldm.errors import UserError  # noqa: E402

EXAMPLES = """
Every image is enlarged by the factor that the model was trained for; padding at its borders is removed again.
A result has the name of its image within the given folder, as .png, with a number if --n is more than 1.
Images in --outdir are left out if it is inside a given folder: they are results.
Images are read upright, as 8 bit, with white behind what is transparent, and keep their colour profile. Those of one size that
follow one another are enlarged together, --batch at a time; with --window, one at a time, --batch tiles of it.

examples
  python scripts/superres.py logs/<run> small.png --steps 100
  python scripts/superres.py logs/<run> a.jpg b.jpg --n 3 --outdir outputs/large
  python scripts/superres.py logs/<run> large.jpg --window 512 --batch 4          memory for a tile at a time
  python scripts/superres.py logs/<run> small.png --guide-scale 1 --guider l2     results that reduce to the input (App. C)
"""


def parser() -> Parser:
    """The command line."""
    p = script_parser(__doc__, EXAMPLES)
    p.add_argument("images", nargs="+", metavar="IMAGE", help="images of any size, or folders of them")
    p.add_argument("--n", "--n_samples", type=count, default=1, help="results per image (default: 1)")
    add_tile_flags(p)
    add_guider_flags(p, scale=0.0)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    if flags.guider == "lpips" and not flags.guide_scale:
        raise UserError("--guider lpips: give --guide-scale as well (1 is the paper's)")
    from ldm.cli.superres import enlarge_all

    return enlarge_all(flags)


if __name__ == "__main__":
    sys.exit(run_script(main))
