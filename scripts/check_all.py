"""`main.py --check` for many configs: one line each with its exit code and the parameters of its parts."""

import json
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script  # noqa: E402
from ldm.config import AllowedTargets, load  # noqa: E402

EXAMPLES = """
examples
  python scripts/check_all.py configs/first_stage/*.yaml configs/ldm/*.yaml
  python scripts/check_all.py official/*.yaml --json findings.json

exit codes: 0 no config is wrong (files may be missing: code 3 in the table); 1 one is
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("configs", nargs="+", type=Path, metavar="YAML")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the findings there as well")
    flags = p.parse_args(arguments)
    from ldm.check import check
    from ldm.checkpoint.foreign import FOREIGN
    from ldm.system.files import write_text

    logging.disable(logging.INFO)
    found = {}
    for path in flags.configs:
        report = check(load([path], foreign=FOREIGN), AllowedTargets())
        sizes = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in report.parameters.items() if count)
        sys.stdout.write(f"{report.exit_code}  {path.stem:<34}{sizes}\n")
        sys.stdout.writelines(f"   {problem}\n" for problem in report.problems)
        sys.stdout.flush()
        found[str(path)] = {"exit_code": report.exit_code, "parameters": report.parameters, "problems": report.problems}
    codes = [entry["exit_code"] for entry in found.values()]
    counts = {code: codes.count(code) for code in (0, 3, 2)}
    sys.stdout.write(f"{len(codes)} configs: {counts[0]} ready, {counts[3]} without their files, {counts[2]} wrong\n")
    if flags.json:
        write_text(flags.json, json.dumps(found, indent=2) + "\n")
    return int(counts[2] > 0)


if __name__ == "__main__":
    sys.exit(run_script(main))
