"""Show two measurements side by side; measurements with different protocols are refused."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script  # noqa: E402
from ldm.errors import UserError  # noqa: E402
from ldm.evaluation.record import PROTOCOL, Record, compare, read_records  # noqa: E402

EXAMPLES = f"""
examples
  two models, measured in the same way
    python scripts/compare.py outputs/a.json outputs/b.json
  one model at 50 and at 250 steps
    python scripts/compare.py outputs/steps50.json outputs/steps250.json --ignore steps
  one measure of several
    python scripts/compare.py outputs/a.json outputs/b.json --metrics FID KID

compared: all measures that are in both files (scripts/evaluate.py --out writes them)
fields that have to be the same, and can be ignored: {", ".join(PROTOCOL)}
exit codes: 0 shown; 2 the protocols differ, or a wrong file or flag; 3 a file is missing
"""


def parser() -> Parser:
    """The command line."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("a", metavar="A", help="records of one set of samples (.json)")
    p.add_argument("b", metavar="B", help="records of another")
    p.add_argument("--ignore", nargs="+", action="extend", default=[], metavar="FIELD", help="parts of the protocol that may differ")
    p.add_argument("--metrics", nargs="+", metavar="NAME", help="these only, by the names in the records (default: all)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    ours, theirs = (by_metric(path) for path in (flags.a, flags.b))
    names = flags.metrics or sorted(ours.keys() & theirs.keys())
    if not names:
        raise UserError(f"no measure is in both files: {flags.a} has {', '.join(ours)}; {flags.b} has {', '.join(theirs)}")
    for path, known in ((flags.a, ours), (flags.b, theirs)):
        if missing := [name for name in names if name not in known]:
            raise UserError(f"{path}: has no {missing[0]!r}; it has {', '.join(known)}")
    found = [compare(ours[name], theirs[name], flags.ignore) for name in names]  # all, before anything is shown
    sys.stdout.write("\n\n".join("\n".join(one.lines((Path(flags.a).stem, Path(flags.b).stem))) for one in found) + "\n")
    return 0


def by_metric(path: str) -> dict[str, Record]:
    """Records of a file by their measure.

    Raises:
        UserError: no record, or two of the same measure.
    """
    records = read_records(Path(path))
    found = {record.metric: record for record in records}
    if not records or len(found) < len(records):
        raise UserError(f"{path}: expected at least one record, and one of each measure")
    return found


if __name__ == "__main__":
    sys.exit(run_script(main))
