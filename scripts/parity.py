"""Run recorded cases of public references through this project's code, and print the differences."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from ldm.cli import Parser, run_script  # noqa: E402
from ldm.errors import UserError  # noqa: E402

EXAMPLES = """
example
  python scripts/parity.py tests/fixtures/compvis
  python scripts/parity.py tests/fixtures/dit

Outputs that are not compared are listed with the reason, and never counted as agreeing.

exit codes: 0 every case agrees; 1 one does not, or is of an unknown kind; 2 no such folder
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("folder", metavar="DIR", type=Path, help="NAME.json beside NAME.safetensors")
    folder = p.parse_args(arguments).folder
    from recorded import cases_in, judge, read_case, runner_for

    counts = {"passed": 0, "failed": 0, "unsupported": 0}
    outputs = 0
    sys.stdout.write(f"{'case':<34}{'worst abs':>11}{'worst rel':>11}  {'tolerance':<35}verdict\n")
    for name in cases_in(folder):
        try:
            case = read_case(folder, name)
        except UserError as error:  # one bad file is one failure: the others are still judged
            counts["failed"] += 1
            sys.stdout.write(f"{name:<34}{'-':>11}{'-':>11}  {'-':<35}FAIL: {error}\n")
            continue
        row = judge(case, runner_for(case))
        counts["unsupported" if row.left_out else "passed" if row.passed else "failed"] += 1
        outputs += 0 if row.left_out else sum(map(len, row.unsupported.values()))
        shown = "-", "-"
        if not row.left_out:
            shown = f"{row.absolute:.2e}", f"{row.relative:.2e}"
        sys.stdout.write(f"{row.name:<34}{shown[0]:>11}{shown[1]:>11}  {row.tolerance:<35}{row.verdict}\n")
    sys.stdout.write(", ".join(f"{count} {what}" for what, count in counts.items()))
    sys.stdout.write(f", and {outputs} outputs of the others\n" if outputs else "\n")
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(run_script(main))
