"""Alternating timing: every piece once per round, so that other load on the machine affects all of them equally.

Wall time on a GPU; CPU time of this process on a CPU, which other programs hardly change.
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
        pieces: functions to time, by name. Each runs once before as a warm-up.
        rounds: at least 1; each begins with another piece.
        device: is synchronized before and after each piece.
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
    """A ratio of speeds: median, lowest and highest over a number of rounds."""

    median: float
    low: float
    high: float
    rounds: int

    def text(self) -> str:
        """As printed with results."""
        return f"{self.median:.3g}x ({self.low:.3g} to {self.high:.3g} over {self.rounds} rounds)"


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Ratio:
    """Speed of `fast` divided by that of `slow`, from their seconds per image in the same rounds."""
    quotients = [a / b for a, b in zip(slow, fast, strict=True)]
    return Ratio(statistics.median(quotients), min(quotients), max(quotients), len(quotients))
