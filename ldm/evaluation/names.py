"""Short names of runs side by side."""

import os
import re
from collections.abc import Sequence

STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d-\d\d(?:-\d\d)?)_(?=.)")  # when a run was started, in the name of its folder
START, END = re.compile(r".*(?:(?<!\de)-|[_ ]|\dT)"), re.compile(r"[-_ ].*")  # the hyphen of 1e-4 is none


def short_names(names: Sequence[str]) -> tuple[list[str], str]:
    """Distinct names without what they have in common, and what that is; "" if nothing.

    Times of start are left out if the rest differs. Names are only cut at separators.
    """
    bare = [STAMP.sub("", name, count=1) for name in names]
    if len(names) == 1:
        return bare, names[0] if bare != list(names) else ""
    kept = bare if len(set(bare)) == len(names) else list(names)
    start = _of(START, os.path.commonprefix(kept))
    rest = [name[len(start) :] for name in kept]
    end = _of(END, os.path.commonprefix([name[::-1] for name in rest])[::-1])
    short = [name[: len(name) - len(end)] for name in rest]
    if not all(short):
        return kept, ""
    return short, f"all: {start}…{end}" if start or end else ""


def _of(pattern: re.Pattern[str], text: str) -> str:
    hit = pattern.search(text)
    return hit[0] if hit else ""
