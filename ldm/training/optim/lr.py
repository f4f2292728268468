"""Learning-rate schedules over training steps, as factors of the configured (global, final) rate."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ldm.ranges import integer, integers, number


def warmup_linear(optimizer: Optimizer, warmup: int, total: int | None = None, end: float = 0.0) -> LambdaLR:
    """Increase from 0 over `warmup` steps; with `total`, decrease linearly to `end` times the rate at that step."""
    return _warmed_up(optimizer, warmup, total, end, lambda done: 1.0 + (end - 1.0) * done)


def warmup_cosine(optimizer: Optimizer, warmup: int, total: int, end: float = 0.0) -> LambdaLR:
    """Increase from 0 over `warmup` steps, then decrease by half a cosine to `end` times the rate at step `total`."""
    return _warmed_up(optimizer, warmup, total, end, lambda done: end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * done)))


def _warmed_up(optimizer: Optimizer, warmup: int, total: int | None, end: float, fall: Callable[[float], float]) -> LambdaLR:
    """Increase over `warmup` steps; then `fall` is given the completed fraction of the steps up to `total`."""
    integer(0, warmup=warmup)
    integer(total=total)
    number(0, end=end)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 1.0 if total is None else fall(min(1.0, (step - warmup) / max(1, total - warmup)))

    return LambdaLR(optimizer, factor)


def cycles(
    optimizer: Optimizer,
    shape: Literal["linear", "cosine"],
    warmup: Sequence[int],
    lengths: Sequence[int],
    start: Sequence[float],
    peak: Sequence[float],
    end: Sequence[float],
) -> LambdaLR:
    """The schedules of released configs, see `cycle_factor`.

    Raises:
        ValueError: lists of different lengths, or a warm-up that is not shorter than its cycle.
    """
    if len({len(values) for values in (warmup, lengths, start, peak, end)}) != 1 or not lengths:
        raise ValueError("cycles needs one entry per cycle in each of warmup, lengths, start, peak and end")
    integers(0, warmup=warmup)
    integers(lengths=lengths)
    for name, values in (("start", start), ("peak", peak), ("end", end)):
        number(0, **{f"{name}[{i}]": value for i, value in enumerate(values)})
    if any(not 0 <= w < length for w, length in zip(warmup, lengths, strict=True)):
        raise ValueError(f"every warm-up must be shorter than its cycle, got {list(warmup)} of {list(lengths)}")
    return LambdaLR(optimizer, lambda step: cycle_factor(step, shape, warmup, lengths, start, peak, end))


def cycle_factor(
    step: int,
    shape: Literal["linear", "cosine"],
    warmup: Sequence[int],
    lengths: Sequence[int],
    start: Sequence[float],
    peak: Sequence[float],
    end: Sequence[float],
) -> float:
    """Cycles of warm-up from `start` to `peak` and decay to `end`; one entry of each list per cycle.

    As in the released runs, the step that ends a cycle still belongs to it, and a linear decay is counted from the start of the
    cycle, so that after the warm-up it does not start at `peak`. After the last cycle the last value is kept.
    """
    before, i = 0, 0
    while i < len(lengths) - 1 and step > before + lengths[i]:
        before, i = before + lengths[i], i + 1
    n = step - before
    if n < warmup[i]:
        return start[i] + (peak[i] - start[i]) * n / warmup[i]
    if shape == "linear":
        return end[i] + (peak[i] - end[i]) * max(0.0, (lengths[i] - n) / lengths[i])
    done = min(1.0, (n - warmup[i]) / (lengths[i] - warmup[i]))
    return end[i] + 0.5 * (peak[i] - end[i]) * (1.0 + math.cos(math.pi * done))
