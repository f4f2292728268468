"""UniPC (Zhao et al., 2023), second order multistep, data prediction, B(h) = e^h - 1."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ldm.diffusion.guidance import Denoise
from ldm.diffusion.process import Process
from ldm.diffusion.sampling.steps import NO_HOOKS, Hooks, Noise, step_pairs


def unipc(
    denoise: Denoise,
    z_T: Tensor,
    process: Process,
    times: Sequence[float],
    *,
    noise: Noise,
    hooks: Hooks = NO_HOOKS,
) -> Tensor:
    """One evaluation per step: it corrects the previous step and predicts the next one. Arguments as in `plms`."""
    z = z_T
    lambdas: list[Tensor] = []  # of the last two times
    models: list[Tensor] = []  # predicted clean latents there
    came_from: tuple[Tensor, float] | None = None  # (z, t) before the previous step
    for t, s in step_pairs(times):
        z = hooks.before(z, t)
        lambda_t = process.half_log_snr(t, z)
        z_0 = denoise(z, t).z_0
        if came_from is not None:
            z = _step(process, *came_from, t, lambdas, models, lambda_t, z_0)
        lambdas, models = [*lambdas, lambda_t][-2:], [*models, z_0][-2:]
        if s == process.clean:
            return hooks.after(z_0, z_0, t)
        came_from = (z, t)
        lambda_s = process.half_log_snr(s, z)
        z = hooks.after(_step(process, z, t, s, lambdas, models, lambda_s, None), z_0, t)
    return z


def _step(
    process: Process,
    z: Tensor,
    t: float,
    s: float,
    lambdas: list[Tensor],
    models: list[Tensor],
    lambda_s: Tensor,
    model_s: Tensor | None,
) -> Tensor:
    """One step from t to s: the corrector if the prediction at s is given, else the predictor."""
    hh = -(lambda_s - lambdas[-1])
    B = torch.expm1(hh)  # for data prediction h_phi_1 and B(h) are the same
    alpha_s = process.alpha(s, z)
    base = process.sigma(s, z) / process.sigma(t, z) * z - alpha_s * B * models[-1]
    correction = torch.zeros_like(z)
    if len(models) > 1:
        r = (lambdas[-2] - lambdas[-1]) / -hh
        D = (models[-2] - models[-1]) / r
        if model_s is None:
            correction = 0.5 * D
        else:
            # Solve [[1, 1], [r, 1]] rho = b for the weights of both differences.
            phi_2 = B / hh - 1
            b_1, b_2 = phi_2 / B, 2 * (phi_2 / hh - 0.5) / B
            rho_1 = (b_1 - b_2) / (1 - r)
            correction = rho_1 * D + (b_1 - rho_1) * (model_s - models[-1])
    elif model_s is not None:
        correction = 0.5 * (model_s - models[-1])
    return base - alpha_s * B * correction
