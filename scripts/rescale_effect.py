"""Show what dividing latents by their standard deviation does (appendix D.1): signal and noise at trained and at large size.

D.1: latents with a large variance have a high signal-to-noise ratio, so that the model settles semantic detail early in the
reverse process; at sizes beyond the trained one that breaks convolutional sampling. Divided by their standard deviation, the
content appears later. The table says when; the picture shows what noised latents still hold, decoded.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script  # noqa: E402
from ldm.cli.flags import add_model_flags  # noqa: E402
from ldm.cli.parser import count, pixels  # noqa: E402

EXAMPLES = """
example
  python scripts/rescale_effect.py logs/<run> --indir my/photos --size 256 --large 512
"""


def parser() -> Parser:
    """The command line."""
    p = Parser(__doc__, EXAMPLES)
    add_model_flags(p)
    p.set_defaults(precision="fp32")
    p.add_argument("--indir", "--images", required=True, metavar="DIR", help="folder of images to encode")
    p.add_argument("--n", type=count, default=16, help="images that are looked at (default: 16)")
    p.add_argument("--size", type=pixels, help="side of the images in training (default: what the model's config says, else 256)")
    p.add_argument("--large", type=pixels, help="side beyond the trained one (default: twice --size)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    from paper.rescale_effect import rescale_effect

    return rescale_effect(flags)


if __name__ == "__main__":
    sys.exit(run_script(main))
