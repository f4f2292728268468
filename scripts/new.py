"""Configs for a folder of your own images: look at it, choose the task and numbers that fit it and this device, and write both stages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script  # noqa: E402
from ldm.cli.flags import TASKS  # noqa: E402
from ldm.cli.parser import amount, count  # noqa: E402

EXAMPLES = """
examples
  whatever the folder is made for: classes from subfolders, captions from text files or metadata, boxes, label maps, masks, pairs
    python scripts/new.py my/photos
  a task of your choice
    python scripts/new.py my/photos --task superres --out configs/sharper
  a numeric column of metadata.jsonl as the condition
    python scripts/new.py my/photos --condition temperature
  fine-tune a run, or a released checkpoint with its YAML beside it
    python scripts/new.py my/photos --start logs/RUN
  on a first stage that exists: a run, VAE folder of diffusers, CompVis checkpoint ...
    python scripts/new.py my/photos --first-stage models/sd-vae-ft-mse
  for another machine than this one, and what it costs there
    python scripts/new.py my/photos --memory 24 --price 0.5

what it writes: OUT/first-stage.yaml and OUT/TASK.yaml, with a comment for each choice; then it prints the commands to run
exit codes: 0 done; 2 a wrong flag, or a folder without what the task needs; 3 no such folder
"""


def parser() -> Parser:
    """The command line."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("folder", metavar="FOLDER", help="your images; or images/ and labels/, images/ and masks/, high/ and low/ in it")
    p.add_argument("--task", choices=TASKS, help="default: what the folder is made for")
    p.add_argument("--condition", metavar="KEY", help="a numeric column of metadata.jsonl or metadata.csv as the condition")
    p.add_argument("--start", metavar="RUN", help="fine-tune this run (or weights file) of stage two instead of training both stages")
    p.add_argument("--first-stage", metavar="FILE", help="run or file of a first stage that exists, of any kind that is read")
    p.add_argument("--out", default="configs/mine", help="where to write (default: configs/mine)")
    p.add_argument("--size", type=count, help="shorter side of the images in pixels, a multiple of 32 (default: by image sizes and device)")
    p.add_argument("--memory", help="GiB of the GPU, 0 for a CPU (default: of the GPU that is here)")
    p.add_argument("--price", type=amount, metavar="X", help="price of an hour of the machine, for the estimate")
    p.add_argument("--force", action="store_true", help="overwrite existing configs")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    from ldm.cli.new import new

    return new(flags)


if __name__ == "__main__":
    sys.exit(run_script(main))
