"""The user study of table 4: a page on this machine shows pairs for 3 seconds, asks which is better, and keeps the votes.

Task 1 compares every method with the ground truth, task 2 two methods with each other. The degraded image is in the middle.
Images of the folders are matched by file name.
"""

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script  # noqa: E402
from ldm.cli.parser import seed  # noqa: E402
from ldm.config.overrides import home  # noqa: E402
from ldm.errors import UserError  # noqa: E402

EXAMPLES = """
examples
  task 1   python scripts/user_study.py --kind superres --conditions low --truth high --method ldm4=outputs/ldm4
  task 2   python scripts/user_study.py --kind inpainting --conditions masked --method lama=outputs/lama --method ldm4=outputs/ldm4
  result   python scripts/user_study.py --results outputs/votes.jsonl

Every subject opens the printed address (with ?subject=NAME for another one in the same browser). Ctrl-C stops the server; the same
command continues the study where each subject was.
"""


def parser() -> Parser:
    """The command line."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("--results", type=Path, metavar="FILE", help="print the results of these votes, and exit")
    p.add_argument("--kind", choices=("inpainting", "superres"), help="which question is asked")
    p.add_argument("--conditions", type=Path, metavar="DIR", help="the low resolution or masked images")
    p.add_argument("--truth", type=Path, metavar="DIR", help="ground truth, for task 1")
    p.add_argument("--method", action="append", default=[], metavar="NAME=DIR", help="images of a method; task 2 takes two")
    p.add_argument("--votes", type=Path, default=Path("outputs/votes.jsonl"), metavar="FILE", help="default: outputs/votes.jsonl")
    p.add_argument("--seconds", type=float, default=3.0, help="for which a pair is shown (default: 3, as in the paper)")
    p.add_argument("--seed", type=seed, default=0, help="of order and sides (default: 0)")
    p.add_argument("--port", type=int, default=0, help="of the page (default: a free one)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    if flags.results is not None:
        sys.stdout.write(result(flags.results))
        return 0
    if flags.kind is None or flags.conditions is None:
        raise UserError("give --kind, --conditions and --method to run a study, or --results FILE to read one; --help shows examples")
    if not 0 <= flags.seconds < math.inf or not 0 <= flags.port < 65536:
        raise UserError(f"--seconds {flags.seconds:g} --port {flags.port}: expected at least 0, and a port below 65536")
    from paper.user_study import UserStudy, Votes
    from paper.user_study_page import StudyServer

    methods: dict[str, Path] = {}
    for word in flags.method:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder) or name in methods:
            raise UserError(f"--method {word!r}: expected NAME=DIR, each name once")
        methods[name] = Path(home(folder))
    study = UserStudy(flags.kind, flags.conditions, methods, flags.truth, flags.seconds, flags.seed)
    with StudyServer(study, Votes(flags.votes, flags.seconds), flags.port) as server:
        sys.stdout.write(f"task {study.task}, {len(study.pairs)} pairs per subject, votes go to {flags.votes}\nopen {server.address}\n")
        sys.stdout.flush()
        server.serve_forever()
    return 0


def result(path: Path) -> str:
    """The shares as text."""
    from ldm.evaluation.runs import read_lines
    from paper.user_study import read_votes, shares

    votes = read_votes(path)
    if not votes:
        raise UserError(f"{path}: no votes yet")
    lines = [f"task {s.task}, {s.kind}: {s.method} preferred to {s.rival} in {s.wins} of {s.votes} votes of {s.subjects} subjects, "
             f"{s.wins / s.votes:.1%} (95 % interval {s.low:.1%} to {s.high:.1%})" for s in shares(votes)]  # fmt: skip
    if damaged := read_lines(path)[1]:
        lines.append(f"{len(damaged)} unreadable lines are left out: {', '.join(map(str, damaged))}")
    seconds = f"pairs were shown for {votes[0].shown_seconds:g} seconds; the interval (Wilson) takes votes as independent"
    return "\n".join([*lines, seconds]) + "\n"


if __name__ == "__main__":
    sys.exit(run_script(main))
