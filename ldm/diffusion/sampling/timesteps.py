"""Where the steps lie; how a step is made is the samplers' business."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Noise = Callable[[Tensor], Tensor]  # like z -> standard normal numbers of its shape, device and dtype
Hook = Callable[[Tensor, int], Tensor]  # (z_t, t) -> the z_t to go on with


def uniform(T: int, steps: int) -> list[int]:
    """Exactly `steps` times, evenly spread over 0 ... T-1 and always beginning with the noisiest, T-1.

    Raises:
        ValueError: if `steps` is not in 1 ... T.
    """
    if not 1 <= steps <= T:
        raise ValueError(f"the number of sampling steps must be between 1 and {T}, got {steps}")
    # The last time falls T/steps before 0, which is the step to clean data.
    return [T - 1 - (i * T) // steps for i in range(steps)]


def walk(times: list[int], z: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yields (t as a number, t as `(B,)`, the next time s as `(B,)`); the last s is -1, clean data."""
    for t, s in zip(times, [*times[1:], -1], strict=True):
        yield t, torch.full((len(z),), t, device=z.device), torch.full((len(z),), s, device=z.device)
