"""Write a report of one or several runs into one self-contained HTML file: configs, curves, pictures, metrics, incidents."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script  # noqa: E402
from ldm.cli.parser import amount, count  # noqa: E402
from ldm.config import load  # noqa: E402

EXAMPLES = """
examples
  python scripts/report.py logs/<run>                      writes logs/<run>/report.html
  python scripts/report.py logs/<run> logs/<other run>     side by side, in outputs/report.html
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders; of one that still trains, what it has so far")
    p.add_argument("--out", type=Path, metavar="FILE", help="where to write (default: RUN/report.html, or outputs/report.html)")
    p.add_argument("--base", metavar="YAML", help="compare configs with this one (default: the config that each run was started with)")
    p.add_argument("--grids", type=count, default=6, help="pictures of each kind, spread over time (default: 6)")
    p.add_argument("--price", type=amount, metavar="X", help="of an hour of a run's devices (default: the one given at its training)")
    flags = p.parse_args(arguments)
    from ldm.checkpoint.foreign import FOREIGN
    from ldm.evaluation.report import render
    from ldm.evaluation.runs import read_run
    from ldm.system.files import write_text

    base = None if flags.base is None else load([flags.base], foreign=FOREIGN).data
    out = flags.out or (flags.runs[0] / "report.html" if len(flags.runs) == 1 else Path("outputs/report.html"))
    page = render([read_run(folder) for folder in flags.runs], base, flags.grids, flags.price)
    write_text(out, page)
    sys.stdout.write(f"{out} ({len(page.encode()) / 2**20:.1f} MiB, {len(flags.runs)} runs)\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
