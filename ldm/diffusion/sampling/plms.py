"""Pseudo linear multistep sampling (Liu et al., 2022): DDIM steps along an extrapolated noise prediction."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ldm.diffusion.guidance import Denoise
from ldm.diffusion.process import Process
from ldm.diffusion.sampling.steps import NO_HOOKS, Hooks, Noise, require_alpha, step_pairs

# Adams-Bashforth weights, newest prediction first.
ADAMS_BASHFORTH = ((3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def plms(
    denoise: Denoise,
    z_T: Tensor,
    process: Process,
    times: Sequence[float],
    *,
    noise: Noise,
    hooks: Hooks = NO_HOOKS,
) -> Tensor:
    """S steps in S + 1 evaluations: the first step is an improved Euler step, the others use up to four predictions.

    Args:
        denoise: (z_t, t) -> Prediction.
        z_T: `(B, C, h, w)` at the first of the times, see `Process.begin`.
        process: the model's.
        times: decreasing, the noisiest first: see `Process.spacings`.
        noise: not used; the method is deterministic.
        hooks: called around every step.

    Returns:
        The latent at the last time, `(B, C, h, w)`.

    Raises:
        ValueError: alpha is 0 at the first time.
    """

    require_alpha("plms", process, times)

    def step(z: Tensor, eps: Tensor, t: float, s: float) -> tuple[Tensor, Tensor]:
        z_0 = (z - process.sigma(t, z) * eps) / process.alpha(t, z)
        return process.alpha(s, z) * z_0 + process.sigma(s, z) * eps, z_0

    z, past = z_T, list[Tensor]()
    for i, (t, s) in enumerate(step_pairs(times)):
        z = hooks.before(z, t)
        eps = denoise(z, t).eps
        if past:
            weights = ADAMS_BASHFORTH[len(past) - 1]
            direction = sum((w * e for w, e in zip(weights[1:], reversed(past), strict=True)), weights[0] * eps)
        else:
            # With a single step there is no next time: evaluate at the same time again.
            ahead = s if i + 2 < len(times) else t
            direction = (eps + denoise(step(z, eps, t, s)[0], ahead).eps) / 2
        z, z_0 = step(z, torch.as_tensor(direction), t, s)
        z = hooks.after(z, z_0, t)
        past = [*past, eps][-3:]
    return z
