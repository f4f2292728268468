"""Where the steps lie; how a step is made is the samplers' business.

A list of times is decreasing and names every place a sampler stops at: the noisiest first, the landing place last. -1 is
clean data, so S steps take S + 1 times.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Noise = Callable[[Tensor], Tensor]  # like z -> standard normal numbers of its shape, device and dtype


def _as_it_is(z_t: Tensor, t: int) -> Tensor:
    return z_t


def _as_it_came(z_s: Tensor, z_0: Tensor, t: int) -> Tensor:
    return z_s


@dataclass(frozen=True)
class Hooks:
    """What happens around every step of a sampler.

    Attributes:
        before: (z_t, t) -> the z_t to go on with, e.g. with known regions put back.
        after: (z_s, z_0 as predicted for this step, t) -> the z_s to go on with; also the place to look at progress.
    """

    before: Callable[[Tensor, int], Tensor] = _as_it_is
    after: Callable[[Tensor, Tensor, int], Tensor] = _as_it_came


NO_HOOKS = Hooks()


def uniform(T: int, steps: int) -> list[int]:
    """Exactly `steps` steps, evenly spread, from the noisiest time T-1 to clean data.

    Raises:
        ValueError: if `steps` is not in 1 ... T.
    """
    if not 1 <= steps <= T:
        raise ValueError(f"the number of sampling steps must be between 1 and {T}, got {steps}")
    return [*(T - 1 - (i * T) // steps for i in range(steps)), -1]


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


def last_part(times: list[int], strength: float) -> list[int]:
    """The last steps of a list, to begin from a noised image instead of noise (image to image).

    Args:
        times: decreasing, ending at the landing place.
        strength: share of the steps that are kept, at least one; 1 keeps all.

    Raises:
        ValueError: a strength outside (0, 1].
    """
    if not 0.0 < strength <= 1.0:
        raise ValueError(f"strength must be more than 0 and at most 1, got {strength}")
    steps = max(1, round(strength * (len(times) - 1)))
    return times[-steps - 1 :]


def walk(times: list[int], z: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yields (t as a number, t as `(B,)`, the next time s as `(B,)`)."""
    for t, s in pairwise(times):
        yield t, torch.full((len(z),), t, device=z.device), torch.full((len(z),), s, device=z.device)
