"""What samplers share: noise, hooks around steps, and the start and end time of every step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from ldm.diffusion.process.base import Process

Noise = Callable[[Tensor], Tensor]  # like z -> standard normal numbers of its shape, device and dtype


def _as_it_is(z_t: Tensor, t: float) -> Tensor:
    return z_t


def _as_it_came(z_s: Tensor, z_0: Tensor, t: float) -> Tensor:
    return z_s


@dataclass(frozen=True)
class Hooks:
    """Functions called around every step of a sampler.

    Attributes:
        before: (z_t, t) -> z_t to continue with, e.g. with known regions replaced.
        after: (z_s, predicted z_0 of this step, t) -> z_s to continue with; also called to report progress.
    """

    before: Callable[[Tensor, float], Tensor] = _as_it_is
    after: Callable[[Tensor, Tensor, float], Tensor] = _as_it_came


NO_HOOKS = Hooks()

Sampler = Callable[..., Tensor]  # (denoise, z_T, process, times, *, noise, hooks, ...) -> z_0; ValueError for an unsupported process


def last_part(times: Sequence[float], strength: float) -> Sequence[float]:
    """The last steps of a spacing, to start from a noised image instead of noise (image to image).

    Args:
        times: decreasing, the final time included.
        strength: share of the steps that are kept, at least one; 1 keeps all.

    Raises:
        ValueError: a strength outside (0, 1].
    """
    if not 0.0 < strength <= 1.0:
        raise ValueError(f"strength must be more than 0 and at most 1, got {strength}")
    steps = max(1, round(strength * (len(times) - 1)))
    return times[-steps - 1 :]


def step_pairs(times: Sequence[float]) -> Iterator[tuple[float, float]]:
    """(t, next time s) of every step."""
    return pairwise(times)


def require_alpha(sampler: str, process: Process, times: Sequence[float]) -> None:
    """Check, for a sampler that divides by alpha, that alpha is not 0.

    Raises:
        ValueError: alpha is 0 at the first time.
    """
    if process.pure_noise and times[0] == process.first:
        raise ValueError(f"sampler {sampler} divides by alpha, which is 0 at the first time of this process: use ddim or dpm_solver")


def require_ode(sampler: str, process: Process, times: Sequence[float]) -> None:
    """Check, for a sampler that steps along the ODE in the process's coordinates, that these are defined.

    Raises:
        ValueError: they are not at the first time.
    """
    if process.ode_divides_by_alpha:
        require_alpha(sampler, process, times)
