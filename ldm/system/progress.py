"""Progress of a job: a bar in a terminal, else a line from time to time."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

QUIET = 15.0  # seconds between lines without a terminal


class Steps:
    """Progress of a job: a bar in a terminal, else a line from time to time."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.begun = self.printed = time.monotonic()

    @contextmanager
    def shown(self, total: int, done: int = 0) -> Iterator[None]:
        """Context around the job; `done` of `total` steps were finished before."""
        self.begun = self.printed = time.monotonic()
        with tqdm(total=total, initial=done, unit="step", file=sys.stderr, disable=None) as self.bar:
            self.at, self.first = done, done
            yield
        self.bar = None

    def step(self) -> None:
        """Count a step."""
        if self.bar is None:
            return
        self.bar.update()
        self.at += 1
        now = time.monotonic()
        if self.bar.disable and now - self.printed > QUIET and self.at < self.bar.total:
            left = (now - self.begun) / (self.at - self.first) * (self.bar.total - self.at)
            sys.stderr.write(f"step {self.at} of {self.bar.total}, {clock(left)} left\n")
            self.printed = now

    def piece(self, number: int, count: int) -> None:
        """Progress within a step that is computed in tiles: `number` of `count` are done."""
        if self.bar is not None and not self.bar.disable:
            self.bar.set_postfix_str(f"tile {number} of {count}")


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
