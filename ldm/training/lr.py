"""Learning-rate schedules over training steps, as factors of the configured (global, final) rate."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_linear(optimizer: Optimizer, warmup: int, total: int | None = None, end: float = 0.0) -> LambdaLR:
    """Rise from 0 over `warmup` steps; with `total`, fall linearly to `end` times the rate at that step."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if total is None:
            return 1.0
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        return 1.0 + (end - 1.0) * done

    return LambdaLR(optimizer, factor)


def warmup_cosine(optimizer: Optimizer, warmup: int, total: int, end: float = 0.0) -> LambdaLR:
    """Rise from 0 over `warmup` steps, then half a cosine down to `end` times the rate at step `total`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * done))

    return LambdaLR(optimizer, factor)
