"""Every task of the paper at small scale: train each with main.py, measure it on held-out conditions, and write one page.

Finished tasks are kept: a second call runs the missing ones. Results of other overrides or another number of samples are not mixed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script  # noqa: E402
from ldm.cli.parser import integer  # noqa: E402
from ldm.errors import UserError  # noqa: E402

TASKS = ("class", "text", "layout", "semantic", "superres", "inpaint")
LONGER = ("inpaint-long",)


def parser() -> Parser:
    """The command line."""
    p = Parser(__doc__)
    known = ",".join(TASKS)
    p.add_argument("--only", default=known, metavar="TASK,...", help=f"some of the tasks (default: {known}), or {', '.join(LONGER)}")
    p.add_argument("--outdir", default="outputs/demo-tasks", help="where to write (default: outputs/demo-tasks)")
    p.add_argument("--n", "--samples", type=integer(40), default=960, help="samples to measure a task with (default: 960)")
    p.add_argument("--again", action="store_true", help="run finished tasks again; first stages only if overrides differ")
    p.add_argument("overrides", nargs="*", default=[], metavar="key.sub=value", help="passed on to every training command")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_intermixed_args(arguments)
    if unknown := sorted(set(flags.only.split(",")) - {*TASKS, *LONGER}):
        raise UserError(f"--only {unknown[0]}: no such task; there are {', '.join((*TASKS, *LONGER))}")
    from demos.tasks import run_tasks

    return run_tasks(flags)


if __name__ == "__main__":
    sys.exit(run_script(main))
