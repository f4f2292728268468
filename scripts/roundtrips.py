"""Convert recorded models of the public reference to this project, back, and to diffusers; compare the results.

If diffusers is installed, its classes and scheduler also sample images from the same noise.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from ldm.cli import Parser, run_script  # noqa: E402

EXAMPLES = """
example
  python scripts/roundtrips.py tests/fixtures/compvis

exit codes: 0 all weights are equal, and images agree within 1e-4; 1 they are not; 2 no such folder
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("folder", metavar="DIR", type=Path, help="recorded cases; those of complete models are used")
    folder = p.parse_args(arguments).folder
    from recorded.roundtrips import roundtrips

    count = failed = 0
    sys.stdout.write(f"{'model':<24}{'keys':>6}  {'CompVis -> ldm -> CompVis':<28}{'ldm -> diffusers -> ldm':<26}images\n")
    for row in roundtrips(folder):
        count, failed = count + 1, failed + (not row["passed"])
        sys.stdout.write(f"{row['name']:<24}{row['keys']:>6}  {row['compvis']:<28}{row['diffusers']:<26}{row['images']}\n")
    sys.stdout.write(f"{count - failed} models through every conversion and back, {failed} failed\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(run_script(main))
