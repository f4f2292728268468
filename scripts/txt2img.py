"""Images from prompts: individual files, a grid of all, and the settings inside every PNG."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script, script_parser  # noqa: E402
from ldm.cli.flags import add_prompt_flags, add_set_flags, add_size_flags, add_start_flags  # noqa: E402
from ldm.cli.parser import count  # noqa: E402
from ldm.errors import UserError  # noqa: E402

EXAMPLES = """
examples
  python scripts/txt2img.py logs/<run> --prompt "a red circle on the left" --n 8
  python scripts/txt2img.py logs/<run> --prompt "a castle by a lake" --negative "people" --scale 7.5 --height 256 --width 512
  python scripts/txt2img.py logs/<run> --from-file prompts.txt --n 2              one prompt per line
  python scripts/txt2img.py model.ckpt --prompt "a castle" --init sketch.png --strength 0.6
"""
SCALE = 5.0  # the original script's


def parser() -> Parser:
    """The command line."""
    p = script_parser(__doc__, EXAMPLES, SCALE)
    add_prompt_flags(p, "what to show")
    p.add_argument("--from-file", metavar="FILE", help="a text file with one prompt per line")
    p.add_argument("--negative", metavar="TEXT", help="what not to show: guidance away from this instead of from no caption")
    p.add_argument("--n", "--n_samples", type=count, default=4, help="images per prompt (default: 4)")
    p.add_argument("--n_iter", type=count, default=1, help="as in the original script: --n images per prompt, this many times (default: 1)")
    add_size_flags(p)
    add_start_flags(p)
    add_set_flags(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    prompts = all_prompts(flags)
    from ldm.cli.condition_flags import Condition, check_captions
    from ldm.cli.job import Job
    from ldm.cli.sets import sample_set

    job = Job.open(flags, SCALE)
    job.conditioner_for("caption", "captions")
    check_captions(job.model, prompts, "--prompt")
    check_captions(job.model, [flags.negative or ""], "--negative")
    conditions = [Condition({"caption": text}, {"caption": text}) for text in prompts for _ in range(flags.n * flags.n_iter)]
    return sample_set(job, conditions, job.size())


def all_prompts(flags: argparse.Namespace) -> list[str]:
    """Those of the command line, then the lines of the file that are not empty.

    Raises:
        MissingFile: no such file.
        UserError: no prompt, or a file that is not text.
    """
    prompts = list(flags.prompts or [])
    if flags.from_file is not None:
        from ldm.cli.condition_file import read_lines

        prompts += read_lines(flags.from_file)
    if not prompts:
        raise UserError('give --prompt "..." or --from-file FILE with at least one line')
    return prompts


if __name__ == "__main__":
    sys.exit(run_script(main))
