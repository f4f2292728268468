"""Spacings of sampling steps over T discrete timesteps.

A spacing is a decreasing list of timesteps, from the noisiest to the final one. -1 is clean data, so S steps need S + 1 timesteps.
"""

import torch


def uniform(T: int, steps: int) -> list[int]:
    """Exactly `steps` evenly spaced steps from the noisiest timestep T-1 to clean data.

    Raises:
        ValueError: if `steps` is not in 1 ... T.
    """
    _check_steps(T, steps)
    return [*(T - 1 - (i * T) // steps for i in range(steps)), -1]


def linspace(T: int, steps: int) -> list[int]:
    """`steps` evenly spaced timesteps from T-1 to 0, rounded, then clean data: the spacing of DiT's ancestral sampling.

    Raises:
        ValueError: if `steps` is not in 1 ... T.
    """
    _check_steps(T, steps)
    return [*(round((T - 1) * (1.0 - i / max(steps - 1, 1))) for i in range(steps)), -1]


def original_uniform(T: int, steps: int) -> list[int]:
    """The spacing of the original DDIM code: every (T // steps)-th timestep from 1 on, ending at timestep 0, which is not clean.

    It gives more steps than requested if `steps` does not divide T.

    Raises:
        ValueError: where the original fails, because its first timestep would be T.
    """
    times = [t + 1 for t in range(0, T, T // steps)] if 1 <= steps <= T else [T]
    if times[-1] >= T:
        raise ValueError(f"the original spacing does not support {steps} of {T} steps: its first timestep would be {times[-1]}")
    return [*reversed(times), 0]


def original_quadratic(T: int, steps: int) -> list[int]:
    """The original's quadratic spacing up to 0.8 T, ending at timestep 0."""
    times = (torch.linspace(0, (0.8 * T) ** 0.5, steps, dtype=torch.float64) ** 2).long() + 1
    return [*reversed(times.tolist()), 0]


def _check_steps(T: int, steps: int) -> None:
    if not 1 <= steps <= T:
        raise ValueError(f"the number of sampling steps must be between 1 and {T}, got {steps}")
