"""Reproduce tables and figures of the paper: plan their rows, run what can run here, and print paper, ours, gap and protocol."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import run_script  # noqa: E402
from ldm.cli.flags import Parser  # noqa: E402
from ldm.errors import UserError  # noqa: E402
from paper.studies.flags import STUDIES, add_flags  # noqa: E402
from paper.tables import asked  # noqa: E402

EXAMPLES = """
There are tables 1, 2, 3, 5 to 15 and 18 and figures 6, 7 and 17. Numbers of parameters (tables 2, 3, 5, 10, 12 to 15, 18) and
speeds as ratios between rows (tables 5, 6, 18) need nothing but this repository. Everything else needs a trained model, images to
hold it against, and weights of an extractor: where they are there, samples are made and measured; where not, the row says "not
run" and what is missing. Nothing is trained: the plan has the commands for that.

Trained models are looked for in models/ldm/NAME.safetensors and models/first_stage/NAME.safetensors, where NAME is that of the
config; --model names another place. Results go to outputs/reproduce/. A record that is there is read, not measured again.

Studies are of models that are trained here. "compression" trains LDM-1, 2, 4 and 8 on procedural scenes, in equal time, and draws
figures 6, 7 and 2 in small; it takes about 45 minutes on two CPU cores, and the same command goes on after a stop. "rate-distortion"
is figure 2 of any model.

examples
  python scripts/reproduce.py --table 1 --plan                                     rows, needs, commands, costs; does nothing
  python scripts/reproduce.py --table 13                                           counts the parameters
  python scripts/reproduce.py --table 6                                            what latents save, in speed; some minutes
  python scripts/reproduce.py --table 1 --row celebahq-ldm4 --model logs/RUN paths.celebahq=DIR
  python scripts/reproduce.py --figure 7 --plan
  python scripts/reproduce.py --study compression --scale demo --plan
  python scripts/reproduce.py --study rate-distortion --model logs/RUN
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(__doc__, EXAMPLES)
    what = p.add_argument_group("what")
    what.add_argument("--table", nargs="+", action="extend", default=[], metavar="N", help="numbers of tables")
    what.add_argument("--figure", nargs="+", action="extend", default=[], metavar="N", help="numbers of figures")
    what.add_argument("--study", choices=STUDIES, help="train and measure in small: see above")
    what.add_argument("--row", metavar="NAME", help="only this row of them")
    what.add_argument("--plan", action="store_true", help="show rows, what is missing, commands and costs; do nothing")
    with_what = p.add_argument_group("with what")
    with_what.add_argument("--models", default="models", metavar="DIR", help="where trained models are looked for (default: models)")
    with_what.add_argument("--model", default="", metavar="MODEL", help="with --row or --study rate-distortion: run folder or weights")
    with_what.add_argument("--weights", default="", metavar="FILE", help="Inception weights (default: in models/metrics)")
    with_what.add_argument("--batch", type=int, default=16, help="images at a time in sampling (default: 16)")
    with_what.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    with_what.add_argument("--json", metavar="FILE", help="write all numbers there as well")
    with_what.add_argument(
        "overrides", nargs="*", metavar="key=value", help="paths.x=DIR, where data lies; of studies, any change for main.py"
    )
    speed = p.add_argument_group("speed (tables 5, 6 and 18)")
    speed.add_argument("--no-speed", action="store_true", help="leave it out")
    speed.add_argument("--rounds", type=int, default=5, help="in each of which every row is timed once (default: 5)")
    speed.add_argument("--share", type=float, help="of every width (default: 1 on a GPU, 0.25 on a CPU)")
    speed.add_argument("--pixels", type=float, default=1.0, help="share of every image side (default: 1)")
    speed.add_argument("--speed-batch", type=int, help="images at a time (default: 8 on a GPU, 1 on a CPU)")
    speed.add_argument("--precision", default="fp32", help="fp32, bf16, fp16, auto: what the device multiplies fastest (default: fp32)")
    add_flags(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_intermixed_args(arguments)
    flags.table, words = numbers(flags.table, flags.overrides)
    flags.figure, words = numbers(flags.figure, words)
    if flags.study:
        if flags.table or flags.figure or flags.row:
            raise UserError("--study goes without --table, --figure and --row")
        from paper.studies.command import run_study

        return run_study(flags, words)
    tables = asked(flags.table, flags.figure)
    if not tables:
        raise UserError("nothing to do: name a --table, a --figure or a --study; --help shows examples")
    from paper.reproduce import run_tables

    return run_tables(flags, tables, words)


def numbers(given: list[str], words: list[str]) -> tuple[list[str], list[str]]:
    """`--table 1 paths.x=DIR`: what follows a number is only one if it does not look like an override."""
    return [word for word in given if "=" not in word], [*words, *(word for word in given if "=" in word)]


if __name__ == "__main__":
    sys.exit(run_script(main))
