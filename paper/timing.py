"""Timing side by side: every piece once per round, in turn, so that what else the machine does falls on all of them alike.

On a GPU, seconds of the clock; on a CPU, processor seconds of this process, which other programs on the machine hardly change.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

Piece = Callable[[], object]
Seconds = dict[str, list[float]]


def in_turn(pieces: Mapping[str, Piece], rounds: int, device: torch.device, after: Callable[[], object] = lambda: None) -> Seconds:
    """Seconds of every piece in every round.

    Args:
        pieces: what is timed, by name. Each runs once before, unmeasured.
        rounds: at least 1; each begins with another piece.
        device: is waited for where it runs ahead.
        after: called after every piece, for progress bars.
    """
    names = list(pieces)
    now = time.perf_counter if device.type == "cuda" else time.process_time
    for name in names:
        pieces[name]()
        after()
    seconds: Seconds = {name: [] for name in names}
    for i in range(rounds):
        for name in [*names[i % len(names) :], *names[: i % len(names)]]:
            _wait(device)
            begun = now()
            pieces[name]()
            _wait(device)
            seconds[name].append(now() - begun)
            after()
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Ratio:
    """How many times as fast, over rounds.

    Attributes:
        median: of the rounds.
        low, high: of the rounds.
        rounds: how many.
    """

    median: float
    low: float
    high: float
    rounds: int

    def text(self) -> str:
        """For people."""
        return f"{self.median:.3g}x ({self.low:.3g} to {self.high:.3g} over {self.rounds} rounds)"


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Ratio:
    """How many times as fast `fast` is as `slow`, round by round: seconds per image of both in the same rounds."""
    quotients = [a / b for a, b in zip(slow, fast, strict=True)]
    return Ratio(statistics.median(quotients), min(quotients), max(quotients), len(quotients))
