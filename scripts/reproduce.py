"""Reproduce tables and figures of the paper: plan their rows, run what is possible, and print both values, their gap and protocol."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script  # noqa: E402
from ldm.cli.parser import count  # noqa: E402
from ldm.errors import UserError  # noqa: E402
from paper.studies.settings import CODE_STEPS, CODED, FACTORS, Study  # noqa: E402
from paper.tables import figure, table  # noqa: E402

EXAMPLES = """
Available are tables 1, 2, 3, 5 to 15 and 18 and figures 6, 7 and 17. Numbers of parameters (tables 2, 3, 5, 10, 12 to 15, 18) and
speeds as ratios between rows (tables 5, 6, 18) need no files. Everything else needs a trained model, reference images and weights of
an extractor. If all of them exist, samples are made and measured; otherwise the row says "not run" and what is missing. Models are not
trained: the plan has the commands for that.

Trained models are expected in models/ldm/NAME.safetensors and models/first_stage/NAME.safetensors, where NAME is that of the config;
--model names another path. Results are written to outputs/reproduce/. Existing records are read, not measured again.

Studies train their own models. "compression" trains LDM-1, 2, 4 and 8 on procedural scenes for equal time, and draws figures 6, 7 and 2
at small scale; it takes about 45 minutes on two CPU cores, and the same command continues after a stop. "rate-distortion" is figure 2
of any model.

examples
  python scripts/reproduce.py --table 1 --plan                                     rows, needed files, commands, costs; runs nothing
  python scripts/reproduce.py --table 13                                           counts the parameters
  python scripts/reproduce.py --table 6                                            speed on pixels and latents; some minutes
  python scripts/reproduce.py --table 1 --row celebahq-ldm4 --model logs/RUN paths.celebahq=DIR
  python scripts/reproduce.py --figure 7 --plan
  python scripts/reproduce.py --study compression --scale demo --plan
  python scripts/reproduce.py --study rate-distortion --model logs/RUN
"""


def parser() -> Parser:
    """The command line."""
    p = Parser(__doc__, EXAMPLES)
    what = p.add_argument_group("tables, figures, studies")
    what.add_argument("--table", nargs="+", action="extend", default=[], metavar="N", help="numbers of tables")
    what.add_argument("--figure", nargs="+", action="extend", default=[], metavar="N", help="numbers of figures")
    what.add_argument("--study", choices=("compression", "rate-distortion"), help="train and measure at small scale")
    what.add_argument("--row", metavar="NAME", help="only this row")
    what.add_argument("--plan", action="store_true", help="print rows, missing files, commands and costs; run nothing")
    settings = p.add_argument_group("models and settings")
    settings.add_argument("--models", default="models", metavar="DIR", help="folder of trained models (default: models)")
    settings.add_argument("--model", default="", metavar="MODEL", help="with --row or --study rate-distortion: run folder or weights")
    settings.add_argument("--weights", default="", metavar="FILE", help="Inception weights (default: in models/metrics)")
    settings.add_argument("--batch", type=count, default=16, help="images at a time in sampling (default: 16)")
    settings.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    settings.add_argument("--json", metavar="FILE", help="also write all numbers as JSON")
    settings.add_argument(
        "overrides", nargs="*", metavar="key=value", help="paths.x=DIR, folder of a data set; for studies, any override of main.py"
    )
    speed = p.add_argument_group("speed (tables 5, 6 and 18)")
    speed.add_argument("--no-speed", action="store_true", help="do not measure speeds")
    speed.add_argument("--rounds", type=count, default=5, help="rounds in which every row is timed once (default: 5)")
    speed.add_argument("--share", type=float, help="share of every width (default: 1 on a GPU, 0.25 on a CPU)")
    speed.add_argument("--pixels", type=float, default=1.0, help="share of every image side (default: 1)")
    speed.add_argument("--speed-batch", type=count, help="images at a time (default: 8 on a GPU, 1 on a CPU)")
    speed.add_argument("--precision", default="fp32", help="fp32, bf16, fp16, auto: what the device multiplies fastest (default: fp32)")
    study = p.add_argument_group("studies (--study)")
    study.add_argument("--scale", choices=["demo"], default="demo", help="demo: procedural scenes at 32x32 (the only one)")
    study.add_argument("--outdir", metavar="DIR", help="where to write (default: outputs/reproduce/STUDY)")
    study.add_argument("--seconds", type=float, default=Study.seconds, help=f"training time of a second stage (default: {Study.seconds:g})")
    study.add_argument("--first-steps", type=int, default=Study.first_steps, help=f"of a first stage (default: {Study.first_steps})")
    study.add_argument("--samples", type=int, default=Study.samples, help=f"per measurement (default: {Study.samples})")
    known = ",".join(map(str, FACTORS))
    study.add_argument("--factors", default=known, metavar="F,...", help=f"models of the compression study (default: {known})")
    study.add_argument("--code-images", type=int, default=CODED, help=f"images of rate-distortion (default: {CODED})")
    study.add_argument("--code-steps", type=int, default=CODE_STEPS, help=f"steps of its code, at most T (default: {CODE_STEPS})")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_intermixed_args(arguments)
    flags.table, words = numbers(flags.table, flags.overrides)
    flags.figure, words = numbers(flags.figure, words)
    if flags.study:
        if flags.table or flags.figure or flags.row:
            raise UserError("--study cannot be combined with --table, --figure and --row")
        from paper.studies.command import run_study

        return run_study(flags, words)
    tables = [*map(table, flags.table), *map(figure, flags.figure)]
    if not tables:
        raise UserError("nothing to do: name a --table, a --figure or a --study; --help shows examples")
    from paper.reproduce import run_tables

    return run_tables(flags, tables, words)


def numbers(given: list[str], words: list[str]) -> tuple[list[str], list[str]]:
    """`--table 1 paths.x=DIR`: words that look like overrides are not numbers."""
    return [word for word in given if "=" not in word], [*words, *(word for word in given if "=" in word)]


if __name__ == "__main__":
    sys.exit(run_script(main))
