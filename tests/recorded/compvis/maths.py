"""Recorded cases of formulas: embeddings, Gaussians, schedules, DDIM tables, averages, learning rates."""

import math
import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from ldm.config import AllowedTargets, build
from ldm.diffusion.process import DiscreteProcess, normal_kl
from ldm.diffusion.process.spacing import original_quadratic, original_uniform
from ldm.first_stage.kl import DiagonalGaussian
from ldm.interop.compvis import tables
from ldm.interop.compvis.process import process as process_node
from ldm.interop.compvis.training import cycle_arguments
from ldm.interop.settings import Settings
from ldm.nn.embedding import timestep_embedding
from ldm.training.ema import EMA
from ldm.training.optim.lr import cycle_factor
from recorded.case import Case


def embedding(case: Case) -> dict[str, Tensor]:
    """Sinusoidal features; width and longest period stand in the outputs' names."""
    t = case.inputs["t"]
    got = {}
    for key in case.outputs:
        width, period = re.search(r"dim(\d+)", key), re.search(r"maxperiod([\d.]+)", key)
        if width is None:
            continue
        if key.startswith("repeat_only"):
            got[key] = t[:, None].expand(-1, int(width[1]))
        else:
            got[key] = timestep_embedding(t, int(width[1]), float(period[1]) if period else 10000.0)
    return got


def first_stage_embedding(case: Case) -> dict[str, Tensor]:
    """The other convention: sine first, and the slowest feature has the longest period itself."""
    got = {}
    for key in case.outputs:
        width = int(key.removeprefix("dim"))
        half = width // 2
        # Frequencies 10000^(-i / (half - 1)) are ours of another longest period.
        ours = timestep_embedding(case.inputs["t"], 2 * half, 10000.0 ** (half / (half - 1)))
        cos, sin = ours.chunk(2, dim=1)
        got[key] = torch.nn.functional.pad(torch.cat([sin, cos], dim=1), (0, width % 2))
    return got


def gaussian(case: Case) -> dict[str, Tensor]:
    """The posterior of the KL first stage, and divergences between two of them."""
    q = DiagonalGaussian.from_moments(case.inputs["moments"])
    a, b = (DiagonalGaussian.from_moments(case.inputs[f"moments_{name}"]) for name in "ab")
    std = torch.exp(0.5 * q.log_variance)
    # Their deterministic posterior is a point: nothing is left when no noise reaches the sample.
    spread = q.sample(torch.zeros_like(q.mean)) - q.mean
    return {
        "mean": q.mean,
        "logvar": q.log_variance,
        "std": std,
        "var": std**2,
        "sample": q.sample(case.inputs["noise"]),
        "kl_a": a.kl(),
        "kl_ab": normal_kl(a.mean, a.log_variance, b.mean, b.log_variance).flatten(1).sum(dim=1),
        "nll_a_at_noise": _nll(a, case.inputs["noise"]),
        "det_var": spread,
        "det_kl": spread.flatten()[:1],
        "normal_kl": normal_kl(a.mean, a.log_variance, b.mean, b.log_variance),
    }


def _nll(q: DiagonalGaussian, z: Tensor) -> Tensor:
    """-log q(z) in nats, summed over the latent: `(B,)`, for z `(B, c, h, w)`."""
    squared = (z - q.mean) ** 2 * torch.exp(-q.log_variance)
    return 0.5 * (math.log(2.0 * math.pi) + q.log_variance + squared).flatten(1).sum(dim=1)


def schedule_tables(case: Case) -> dict[str, Tensor]:
    """All tables of a schedule."""
    p = Settings(case.target, case.params)
    v, kind = float(p.take("v_posterior", 0.0)), p.take("parameterization", "eps")
    process: DiscreteProcess = build(process_node(p), AllowedTargets())
    p.done()
    got = tables.buffers(process, v)
    return got | {"lvlb_weights": _bound_weights(process, got, kind), "betas_f64": process.betas}


def _bound_weights(process: DiscreteProcess, tables: Mapping[str, Tensor], parameterization: Literal["eps", "x0"]) -> Tensor:
    """Their weights of the variational bound `(T,)`, from the float32 tables; the first is the second's."""
    squared, alphas = tables["alphas_cumprod"], (1.0 - process.betas).float()
    if parameterization == "eps":
        weights = tables["betas"] ** 2 / (2 * tables["posterior_variance"] * alphas * (1 - squared))
    else:
        weights = 0.5 * squared.sqrt() / (2.0 - squared)
    weights[0] = weights[1]
    return weights


def ddim_tables(case: Case) -> dict[str, Tensor]:
    """Times, alphas and sigmas of their DDIM; method, number of steps and eta stand in the outputs' names."""
    squared = case.inputs["alphas_cumprod"].double()
    got: dict[str, Tensor] = {}
    for key in case.outputs:
        method, steps, rest = key.split("_", 2)
        times, fails = _their_times(method, len(squared), int(steps))
        if rest == "index_error":
            got[key] = torch.tensor(int(fails))
        elif rest == "timesteps":
            got[key] = torch.tensor(times)
        else:
            here = squared[times]
            before = squared[[0, *times[:-1]]]
            eta = re.fullmatch(r"eta([\d.]+)_sigmas", rest)
            sigmas = ((1 - before) / (1 - here) * (1 - here / before)).sqrt()
            got[key] = float(eta[1]) * sigmas if eta else {"alphas": here, "alphas_prev": before}[rest]
    return got


def _their_times(method: str, T: int, steps: int) -> tuple[list[int], bool]:
    """Ascending times, without the landing place; and whether their code fails on them."""
    if method == "quad":
        return original_quadratic(T, steps)[-2::-1], False
    try:
        return original_uniform(T, steps)[-2::-1], False
    except ValueError:
        return [t + 1 for t in range(0, T, T // steps)], True


def ema(case: Case) -> dict[str, Tensor]:
    """Five updates of an average, state by state; parameters that are frozen have none."""
    p = Settings(case.target, case.params)
    decay, warmup = p.take("decay", 0.9999), p.take("use_num_upates", True)  # their spelling
    p.done()
    names = [name.removeprefix("p0.") for name in case.inputs if name.startswith("p0.")]
    shadowed = {key.split(".", 1)[1] for key in case.outputs}
    live = {name: nn.Parameter(case.inputs[f"p0.{name}"].clone()) for name in names if name.replace(".", "") in shadowed}
    average = EMA(live, decay, warmup)
    got: dict[str, Tensor] = {}
    steps = sorted({int(key.split(".")[0].removeprefix("after")) for key in case.outputs})
    for i in range(1, steps[-1] + 1):
        for name, parameter in live.items():
            parameter.data.copy_(case.inputs[f"p{i}.{name}"])
        average.update()
        got |= {f"after{i}.{name.replace('.', '')}": value.clone() for name, value in average.shadow.items()}
        got |= {f"after{i}.decay": torch.tensor(average.decay), f"after{i}.num_updates": torch.tensor(average.updates if warmup else -1)}
    return got


def learning_rate(case: Case) -> dict[str, Tensor]:
    """Multipliers of the base rate."""
    arguments = cycle_arguments(case.target, case.params)
    factors = [cycle_factor(int(step), **arguments) for step in case.inputs["steps"]]
    return {"multiplier_f64": torch.tensor(factors, dtype=torch.float64)}
