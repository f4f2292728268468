"""Where sampling steps lie among T discrete times.

A list of times is decreasing and names every place a sampler stops at: the noisiest first, the landing place last. -1 is
clean data, so S steps take S + 1 times.
"""

import torch


def uniform(T: int, steps: int) -> list[int]:
    """Exactly `steps` steps, evenly spread, from the noisiest time T-1 to clean data.

    Raises:
        ValueError: if `steps` is not in 1 ... T.
    """
    _check_steps(T, steps)
    return [*(T - 1 - (i * T) // steps for i in range(steps)), -1]


def linspace(T: int, steps: int) -> list[int]:
    """`steps` times spread from T-1 to 0 and rounded, then clean data: the spacing of DiT's ancestral sampling.

    Raises:
        ValueError: if `steps` is not in 1 ... T.
    """
    _check_steps(T, steps)
    return [*(round((T - 1) * (1.0 - i / max(steps - 1, 1))) for i in range(steps)), -1]


def original_uniform(T: int, steps: int) -> list[int]:
    """The spacing of the original DDIM code: every (T // steps)-th time from 1 on, landing on time 0, which is not clean.

    It makes more steps than asked for where `steps` does not divide T.

    Raises:
        ValueError: where the original fails, because its first time would be T.
    """
    times = [t + 1 for t in range(0, T, T // steps)] if 1 <= steps <= T else [T]
    if times[-1] >= T:
        raise ValueError(f"the original spacing has no {steps} of {T} steps: its first time would be {times[-1]}")
    return [*reversed(times), 0]


def original_quadratic(T: int, steps: int) -> list[int]:
    """The original's quadratic spacing up to 0.8 T, landing on time 0."""
    times = (torch.linspace(0, (0.8 * T) ** 0.5, steps, dtype=torch.float64) ** 2).long() + 1
    return [*reversed(times.tolist()), 0]


def _check_steps(T: int, steps: int) -> None:
    if not 1 <= steps <= T:
        raise ValueError(f"the number of sampling steps must be between 1 and {T}, got {steps}")
