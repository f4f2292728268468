"""Recorded cases of EDM: preconditioning, losses, noise levels, and the sampler, with networks and data that have a formula."""

import math
from typing import Any

import torch
from torch import Tensor

from ldm.diffusion import DiffusionObjective, cosine, weighting
from ldm.diffusion.parameterization import PARAMETERIZATIONS, Parameterization, Prediction
from ldm.diffusion.process import (
    EDM,
    DiscreteProcess,
    Level,
    LogNormal,
    LogUniform,
    Process,
    Uniform,
    VarianceExploding,
    VariancePreserving,
)
from ldm.diffusion.sampling import Hooks, heun
from recorded.case import Case, Unsupported

VP_EDGE = 1e-5  # their smallest time of the VP process


def _network(net: dict[str, float], a: Tensor, c: Tensor) -> Tensor:
    """Their trivial network: scale * input + shift * condition."""
    return net["scale"] * a + net["shift"] * c.to(a.dtype).view(-1, 1, 1, 1)


def _options(case: Case, *known: str) -> dict[str, Any]:
    options = case.params["options"]
    if unknown := options.keys() - set(known):
        raise ValueError(f"unknown options: {', '.join(sorted(unknown))}")
    return options  # type: ignore[no-any-return]


def _setting(case: Case) -> tuple[Process, Parameterization]:
    """Process, and what the network predicts."""
    which = case.params["which"]
    if which == "EDM":
        return EDM(_options(case, "sigma_data").get("sigma_data", 0.5)), PARAMETERIZATIONS["edm"]
    if which == "VE":
        options = _options(case, "sigma_min", "sigma_max")
        return VarianceExploding(options.get("sigma_min", 0.02), options.get("sigma_max", 100.0)), PARAMETERIZATIONS["edm"]
    if which == "VP":  # noise prediction, at z_t = alpha_t (z_0 + sigma eps)
        options = _options(case, "beta_d", "beta_min", "M", "epsilon_t")
        low = options.get("beta_min", 0.1)
        process = VariancePreserving(low, low + options.get("beta_d", 19.9), time_scale=options.get("M", 1000) - 1)
        return process, PARAMETERIZATIONS["eps"]
    if which == "iDDPM":
        options = _options(case, "C_1", "C_2", "M")
        if options.get("C_1", 0.001) != 0.001:
            raise ValueError(f"C_1 is {options['C_1']}: betas end at 0.999 here, as with 0.001")
        return cosine(options.get("M", 1000), options.get("C_2", 0.008)), PARAMETERIZATIONS["eps"]
    raise ValueError(f"unknown preconditioning {which}")


def _clock(process: Process, t: Tensor) -> Tensor:
    """Their sigma: sigma_t / alpha_t, float64."""
    if isinstance(process, DiscreteProcess):
        squared = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1.0 - process.betas, dim=0)])[t + 1]
        return ((1.0 - squared) / squared).sqrt()
    at = process.at(t, t)
    return at.sigma / at.alpha


def _short_clock(process: Process, t: Tensor) -> Tensor:
    """The clock as they compute it: in float32, which has few digits left near clean data."""
    return (torch.exp((-2.0 * process.alpha(t.double(), t.double()).log()).float()) - 1.0).sqrt()


def _time_of(process: Process, sigma: Tensor) -> Tensor:
    """The time at which the clock shows sigma; the nearest one where time is discrete."""
    if isinstance(process, DiscreteProcess):
        clock = _clock(process, torch.arange(-1, process.T))
        return (clock[None] - sigma.double()[:, None]).abs().argmin(dim=1) - 1
    if process.first > 1.0:  # time is sigma
        return sigma.double()
    low, high = torch.zeros_like(sigma, dtype=torch.float64), torch.ones_like(sigma, dtype=torch.float64)
    for _ in range(60):
        middle = (low + high) / 2
        below = _clock(process, middle) < sigma
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


@torch.no_grad()
def preconditioning(case: Case) -> dict[str, Tensor]:
    """The clean latent as it depends on input and output of the network: read off the parameterization, not off formulas of EDM."""
    process, parameterization = _setting(case)
    x, sigma = case.inputs["x"], case.inputs["sigma"]
    t = _time_of(process, sigma)
    one = torch.ones(len(sigma), 1, 1, 1)
    scale = process.alpha(t, one)  # z_t = alpha_t x
    if isinstance(process, DiscreteProcess):  # x has the noise that it has, not that of the nearest time
        scale = 1.0 / (sigma**2 + 1.0).sqrt().view(-1, 1, 1, 1)
    given, at = process.scale_input(scale * x, t), process.at(t, x)
    if isinstance(process, DiscreteProcess):
        at = Level(scale, sigma.view(-1, 1, 1, 1) * scale)
    told = process.network_time(t)

    def clean(z: Tensor, output: Tensor) -> Tensor:
        return parameterization.predict(output, z, at).z_0

    output = _network(case.params["net"], given, told)
    got = {
        "c_in": process.scale_input(scale, t).flatten(),
        "c_noise": told,
        "c_skip": clean(scale, 0 * one).flatten(),
        "c_out": clean(0 * one, one).flatten(),
        "D": clean(scale * x, output),
        "net_input": given,
        "t_of_sigma": t,
    }
    if "t" in case.inputs:
        got["sigma_of_t"] = _short_clock(process, case.inputs["t"])
    if isinstance(process, DiscreteProcess):
        table = _clock(process, torch.arange(-1, process.T)).flip(0)
        got |= {"table_u": table, "rounded_sigma": _clock(process, t), "sigma_min": table[-2], "sigma_max": table[0]}
    elif isinstance(process, VariancePreserving):
        edge = case.params["options"].get("epsilon_t", VP_EDGE)
        got |= dict(zip(("sigma_min", "sigma_max"), _short_clock(process, torch.tensor([edge, 1.0])), strict=True))
    elif isinstance(process, VarianceExploding):
        got |= {"sigma_min": torch.tensor(process.sigma_min), "sigma_max": torch.tensor(process.first)}
    return got


def losses(case: Case) -> dict[str, Tensor]:
    """Noise levels as they are drawn, weights and loss of each pixel; D is EDM's throughout."""
    p, u = case.params, case.inputs["uniform"].flatten().double()
    normal = torch.special.ndtr(case.inputs["rnd_normal"].flatten().double())
    vp, edm = VariancePreserving(), EDM(p["sigma_data"])
    snr = weighting.min_snr(1e12)
    drawn = {
        "edm": (LogNormal(p["P_mean"], p["P_std"])(normal), weighting.edm(p["sigma_data"])),
        "vp": (_clock(vp, Uniform(1e-5, 1.0)(1.0 - u)), snr),
        "ve": (LogUniform(0.02, 100.0)(u), snr),
    }
    got: dict[str, Tensor] = {}
    for name, (sigma, weight) in drawn.items():
        at, f, clean = edm.at(sigma, case.inputs["images"]), PARAMETERIZATIONS["edm"], PARAMETERIZATIONS["x0"]
        objective = DiffusionObjective(weight=weight)

        def network(z: Tensor, t: Tensor) -> Tensor:
            return _network(p["net"], edm.scale_input(z, t), edm.network_time(t))

        z = edm.add_noise(case.inputs["images"], sigma, case.inputs["noise"])
        error = network(z, sigma) - f.target(case.inputs["images"], case.inputs["noise"], at)
        errors = objective.errors(network, case.inputs["images"], sigma, case.inputs["noise"], edm, f)
        got |= {
            name: weight(at, f) * error**2,
            f"{name}_sigma": sigma,
            f"{name}_weight": weight(at, clean).flatten(),
            f"{name}_mean": objective(errors, sigma, edm, f)[0],
        }
    return got


def uncertainty(case: Case) -> dict[str, Tensor | Unsupported]:
    """How sigma is drawn; the rest is a learned function of sigma."""
    normal = torch.special.ndtr(case.inputs["rnd_normal"].flatten().double())
    sigma = LogNormal(case.params["P_mean"], case.params["P_std"])(normal)
    return dict.fromkeys(case.outputs, Unsupported("EDM2's learned uncertainty is not built")) | {"sigma": sigma}


def _process(run: dict[str, Any]) -> EDM:
    return EDM(sigma_min=run["sigma_min"], sigma_max=run["sigma_max"], rho=run["rho"])


def steps(case: Case) -> dict[str, Tensor]:
    """Noise levels in sampling order."""
    stops = {tag: _process(run).karras(run["num_steps"]) for tag, run in case.params["runs"].items()}
    return {tag: torch.tensor(values, dtype=torch.float64) for tag, values in stops.items()}


def sampler(case: Case) -> dict[str, Tensor]:
    """Heun's method with churn, in float64, with every call of the denoiser."""
    got: dict[str, Tensor] = {}
    mean, variance = case.inputs["data_mean"].double(), case.params["data"]["std"] ** 2
    for tag, run in case.params["runs"].items():
        calls: list[tuple[Tensor, float]] = []

        def denoise(x: Tensor, sigma: float, calls: list[tuple[Tensor, float]] = calls) -> Prediction:
            calls.append((x, sigma))
            z_0 = (variance * x + sigma**2 * mean) / (variance + sigma**2)
            return Prediction((x - z_0) / sigma, z_0)

        process = _process(run)
        times = process.karras(run["num_steps"])
        noises, step = case.inputs.get(f"{tag}_noise"), [0, 0]  # which step it is, and how often noise was drawn

        def before(z: Tensor, t: float, times: list[float] = times, step: list[int] = step) -> Tensor:
            step[0] = times.index(t)
            return z

        def noise(z: Tensor, run: dict[str, Any] = run, noises: Any = noises, step: list[int] = step) -> Tensor:
            step[1] += 1
            return noises[step[1] - 1 if run.get("program") == "EDM2" else step[0]].double()  # type: ignore[no-any-return]

        between = run.get("S_min", 0.0), float(run.get("S_max", math.inf))
        churn = {"churn": run.get("S_churn", 0.0), "churn_between": between, "churn_noise": run.get("S_noise", 1.0)}
        z = process.begin(case.inputs["latents"].double())
        got[tag] = heun(denoise, z, process, times, noise=noise, hooks=Hooks(before=before), **churn)
        got[f"{tag}_call_x"] = torch.stack([x for x, _ in calls])
        got[f"{tag}_call_sigma"] = torch.tensor([sigma for _, sigma in calls], dtype=torch.float64)
    return got
