"""The buffers of the noise schedule that their checkpoints carry; here they follow from the betas and are never stored."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ldm.diffusion.process import DiscreteProcess
from ldm.errors import UserError

NAMES = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)


def buffers(process: DiscreteProcess, v: float = 0.0) -> dict[str, Tensor]:
    """Their twelve tables `(T,)` float32, computed in float64 as they compute them.

    Args:
        process: ours.
        v: weight of the upper bound in the posterior's variance; 1 - v is that of the lower one.
    """
    betas = process.betas.cpu().numpy()
    alphas = 1.0 - betas
    squared = np.cumprod(alphas)
    before = np.append(1.0, squared[:-1])
    variance = (1.0 - v) * betas * (1.0 - before) / (1.0 - squared) + v * betas
    with np.errstate(divide="ignore"):  # pure noise at the end (zero terminal SNR) has no reciprocal
        tables = (
            betas,
            squared,
            before,
            np.sqrt(squared),
            np.sqrt(1.0 - squared),
            np.log(1.0 - squared),
            np.sqrt(1.0 / squared),
            np.sqrt(1.0 / squared - 1),
            variance,
            np.log(np.maximum(variance, 1e-20)),
            betas * np.sqrt(before) / (1.0 - squared),
            (1.0 - before) * np.sqrt(alphas) / (1.0 - squared),
        )
    return {name: torch.tensor(table, dtype=torch.float32) for name, table in zip(NAMES, tables, strict=True)}


def compare(process: DiscreteProcess, state: Mapping[str, Tensor], source: str) -> None:
    """Compare the tables of a checkpoint with the schedule of its config; a `UserError` if they differ."""
    ours = buffers(process)
    for name in ("betas", "alphas_cumprod"):
        if name in state:
            theirs = state[name].float().cpu()
            rtol = 1e-3 if state[name].dtype in (torch.float32, torch.float64) else 2e-2  # rounding in half precision
            if theirs.shape != ours[name].shape or not torch.allclose(theirs, ours[name], rtol=rtol, atol=1e-5):
                raise UserError(
                    f"{source}: {name} is not that of the config's schedule (timesteps, beta_schedule, linear_start, linear_end)"
                )
