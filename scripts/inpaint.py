"""Fill masked regions of images: pairs x.png and x_mask.png of a folder, or any images with generated masks.

Pixels outside the mask stay unchanged.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script, script_parser  # noqa: E402
from ldm.cli.flags import MASKS, add_condition_flags, add_tile_flags  # noqa: E402
from ldm.cli.parser import count  # noqa: E402
from ldm.errors import UserError  # noqa: E402

EXAMPLES = """
The folder has images and, for each, a mask of the same size with "_mask" added to its name: photo.jpg and photo_mask.png.
White (from half white on) is filled. Images are read upright, as 8 bit, grey or RGB as the model was trained, with white
behind what is transparent; pixels outside the mask stay unchanged, with the file's colour profile. With --masks, the
masks are those of the LaMa paper's generator (thin, medium, thick, or mixed; training: those that LaMa is trained with; box and
half for tests); they depend on --seed and the names of the images. With --known, a cell of the latent is filled if any
of its pixels is masked; the others are put back, noised, before every step.

examples
  python scripts/inpaint.py logs/<run> --indir inputs --outdir outputs/inpainted --steps 50
  python scripts/inpaint.py logs/<run> --indir inputs --n 4                        four candidates per image
  python scripts/inpaint.py logs/<run> --indir photos --masks thick                images without masks; the masks are written too
  python scripts/inpaint.py logs/<unconditional run> --indir inputs --known        a model that was not trained for it
"""


def parser() -> Parser:
    """The command line."""
    p = script_parser(__doc__, EXAMPLES)
    p.add_argument("--indir", required=True, metavar="DIR", help="folder with x.png and x_mask.png")
    p.add_argument("--masks", choices=MASKS, help="generate masks of this kind for all images of the folder")
    p.add_argument("--n", "--n_samples", type=count, default=1, help="candidates per image (default: 1)")
    p.add_argument("--known", action="store_true", help="put the known region back, noised, before every step: for any model")
    add_condition_flags(p)
    add_tile_flags(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    if Path(flags.indir).resolve() == Path(flags.outdir).resolve():
        raise UserError(f"--outdir {flags.outdir}: results would overwrite the images of --indir")
    from ldm.cli.inpaint import inpaint

    return inpaint(flags)


if __name__ == "__main__":
    sys.exit(run_script(main))
