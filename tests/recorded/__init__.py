"""Values recorded from public references, run through this project's code: see `scripts/parity.py`."""

from recorded import compvis, dit
from recorded.case import Case, Runner, cases_in, judge, read_case


def runner_for(case: Case) -> Runner | None:
    """The runner of a case's kind; None if there is none."""
    return dit.runner_for(case) or compvis.runner_for(case)


__all__ = ["cases_in", "judge", "read_case", "runner_for"]
