"""How far a job is: a bar at a terminal, else a line now and then."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

QUIET = 15.0  # seconds between lines where there is no terminal for a bar


class Steps:
    """How far a job is: a bar at a terminal, else a line every now and then."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.begun = self.said = time.monotonic()

    @contextmanager
    def shown(self, total: int, done: int = 0) -> Iterator[None]:
        """While it runs; `done` of `total` steps were made before."""
        self.begun = self.said = time.monotonic()
        with tqdm(total=total, initial=done, unit="step", file=sys.stderr, disable=None) as self.bar:
            self.at, self.first = done, done
            yield
        self.bar = None

    def step(self) -> None:
        """A step is made."""
        if self.bar is None:
            return
        self.bar.update()
        self.at += 1
        now = time.monotonic()
        if self.bar.disable and now - self.said > QUIET and self.at < self.bar.total:
            left = (now - self.begun) / (self.at - self.first) * (self.bar.total - self.at)
            sys.stderr.write(f"step {self.at} of {self.bar.total}, {clock(left)} left\n")
            self.said = now

    def piece(self, number: int, count: int) -> None:
        """Of a step that is computed in pieces, `number` of `count` are done."""
        if self.bar is not None and not self.bar.disable:
            self.bar.set_postfix_str(f"window {number} of {count}")


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
