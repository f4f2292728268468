"""Run recorded cases of the public reference through this project's code, and print how far apart the two are."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.threads import choose_waiting  # noqa: E402

choose_waiting()

from ldm.cli import run_script  # noqa: E402
from ldm.cli.flags import Parser  # noqa: E402
from ldm.errors import UserError  # noqa: E402
from ldm.interop.compvis.recorded import Row, cases_in, judge, read_case, runner_for, unsupported  # noqa: E402

EXAMPLES = """
example
  python scripts/parity.py tests/fixtures/compvis

exit codes: 0 every case agrees; 1 one does not, or is of a kind that this project does not know; 2 no such folder
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("folder", metavar="DIR", type=Path, help="NAME.json beside NAME.safetensors")
    folder = p.parse_args(arguments).folder
    rows = []
    left_out = 0
    sys.stdout.write(f"{'case':<34}{'worst abs':>11}{'worst rel':>11}  {'tolerance':<28}verdict\n")
    for name in cases_in(folder):
        try:
            case = read_case(folder, name)
        except UserError as error:  # one bad file is one failure: the others are still judged
            rows.append(Row(name, float("nan"), float("nan"), "-", str(error)))
            sys.stdout.write(f"{name:<34}{'-':>11}{'-':>11}  {'-':<28}FAIL: {error}\n")
            continue
        if reason := unsupported(case):
            left_out += 1
            sys.stdout.write(f"{name:<34}{'-':>11}{'-':>11}  {'-':<28}unsupported: {reason}\n")
            continue
        row = judge(case, runner_for(case))
        rows.append(row)
        verdict = "pass" if row.passed else f"FAIL: {row.reason}"
        sys.stdout.write(f"{row.name:<34}{row.absolute:>11.2e}{row.relative:>11.2e}  {row.tolerance:<28}{verdict}\n")
    failed = sum(not row.passed for row in rows)
    sys.stdout.write(f"{len(rows) - failed} passed, {failed} failed, {left_out} unsupported\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(run_script(main))
