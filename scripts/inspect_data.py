"""Look at the data of a config before training: how much there is, what is in it, what is broken, and a picture of it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script  # noqa: E402
from ldm.cli.parser import count, files_and_overrides, integer  # noqa: E402

EXAMPLES = """
examples
  the data of a training config; the model in it is not built
    python scripts/inspect_data.py --base configs/demo/text.yaml
  only a data config, with a folder of your own
    python scripts/inspect_data.py --base configs/data/coco-boxes256.yaml paths.coco=my/coco
  read every file, to find all that are broken
    python scripts/inspect_data.py --base configs/own/ldm.yaml paths.images=my/photos --limit 0

what it writes: OUTDIR/train.png and validation.png (samples with their boxes, label maps, masks and captions as a model would get
them), OUTDIR/broken.txt (every file or line that was left out, with the reason) and, where classes have names, train-classes.txt and
validation-classes.txt (which index stands for which; folders count in the order of their names as text, 10 before 9). An official
CompVis YAML can be given, too.
exit codes: 0 done; 2 a wrong config or flag, or data that cannot be used; 3 files that the config names are missing
"""


def parser() -> Parser:
    """The command line."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("-b", "--base", nargs="+", action="extend", required=True, metavar="YAML", help="configs, merged left to right")
    p.add_argument("--n", type=count, default=16, help="samples in the picture (default: 16)")
    p.add_argument("--limit", type=integer(0), default=1000, help="samples to read, spread over the set; 0 reads all (default: 1000)")
    p.add_argument("--outdir", default="outputs/inspect", help="where to write (default: outputs/inspect)")
    p.add_trust("configs")
    p.add_argument("overrides", nargs="*", metavar="key.sub=value", help="changes to the config, after all files")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_intermixed_args(arguments)
    flags.base, flags.overrides = files_and_overrides(flags)
    from ldm.cli.inspect_data import inspect_all

    return inspect_all(flags)


if __name__ == "__main__":
    sys.exit(run_script(main))
