"""Recorded cases of SiT's and LightningDiT's transport: paths, losses, times, latents. t = 0 is noise there and data here."""

from typing import Any

import torch
from torch import Tensor

from ldm.diffusion import DiffusionObjective, weighting
from ldm.diffusion.parameterization import PARAMETERIZATIONS, Eps, Parameterization, Prediction
from ldm.diffusion.process import (
    ContinuousProcess,
    LogitNormal,
    RectifiedFlow,
    Trigonometric,
    Uniform,
    VariancePreserving,
)
from ldm.first_stage import IdentityFirstStage
from ldm.model import LatentDiffusion
from ldm.networks import UNet
from recorded.case import Case, Unsupported
from recorded.dit.networks import gradients, model

PATHS: dict[str, type[ContinuousProcess]] = {"Linear": RectifiedFlow, "GVP": Trigonometric, "VP": VariancePreserving}
WEIGHTINGS = {None: None, "velocity": weighting.velocity(), "likelihood": weighting.likelihood()}
SDE = Unsupported("coefficients of SiT's SDE forms are not built")


def interval(path: str, prediction: str, sampling: bool = False) -> tuple[float, float]:
    """Their times [t0, t1]."""
    if path == "VP":
        return 0.0, 1.0 - (1e-3 if sampling else 1e-5)
    return (0.0, 1.0) if prediction == "velocity" else (1e-3, 1.0 - 1e-3)


def process_of(path: str, prediction: str, sampling: bool = False, **options: Any) -> ContinuousProcess:
    """The process of a path, with the times of training, for a network that counts time as theirs."""
    t0, t1 = interval(path, prediction, sampling)
    return PATHS[path](times=options.pop("times", Uniform(1.0 - t1, 1.0 - t0)), time_reversed=True, time_scale=1.0, **options)


class NoiseInside(Eps):
    """Noise prediction, also where a process begins with pure noise: their times stay inside."""

    divides_by_alpha = False


def parameterization_of(prediction: str) -> str | Parameterization:
    """A score is a prediction of the noise, scaled: see `as_noise`."""
    return "velocity" if prediction == "velocity" else NoiseInside()


def as_noise(output: Tensor, sigma: Tensor, prediction: str) -> Tensor:
    """eps = -sigma score."""
    return -sigma * output if prediction == "score" else output


def path(case: Case) -> dict[str, Tensor | Unsupported]:
    """alpha, sigma, their derivatives, z_t, velocity, and how predictions are turned into one another."""
    process = PATHS[case.params["path"]]()
    data, noise, t = case.inputs["x1"], case.inputs["x0"], 1.0 - case.inputs["t"].double()
    at, wide = process.at(t, t), process.at(t, data.double())
    assert at.d_alpha is not None and at.d_sigma is not None and wide.d_alpha is not None
    z_t = process.add_noise(data, t, noise)
    velocity, eps = PARAMETERIZATIONS["velocity"], PARAMETERIZATIONS["eps"]
    read: Prediction = velocity.predict(-case.inputs["velocity"], z_t, wide)
    of_score = eps.predict(-wide.sigma * case.inputs["score"], z_t, wide)
    got = {
        "alpha": at.alpha,
        "sigma": at.sigma,
        "d_alpha": -at.d_alpha,
        "d_sigma": -at.d_sigma,
        "xt": z_t,
        "ut": -velocity.target(data, noise, wide),
        "drift": wide.d_alpha / wide.alpha * z_t,
        "drift_var": at.sigma * at.d_sigma - at.d_alpha / at.alpha * at.sigma**2,
        "noise_from_velocity": read.eps,
        "score_from_velocity": -read.eps / wide.sigma,
        "velocity_from_score": -velocity.target(of_score.z_0, of_score.eps, wide),
    }
    return {key: SDE if key.startswith("diffusion_") else got[key] for key in case.outputs if key in got or key.startswith("diffusion_")}


def losses(case: Case) -> dict[str, Tensor]:
    """Per sample, with the times they are drawn at, and gradients of their mean."""
    got: dict[str, Tensor] = {}
    program = case.target.partition(".")[0]
    for tag, run in case.params["runs"].items():
        kind, prediction = run["path"], run["prediction"]
        process = process_of(kind, prediction, **({"times": LogitNormal()} if run.get("lognorm") else {}))
        made = model(case.params["model"], case.weights, program, process, parameterization_of(prediction))
        # Their uniform numbers and normal ones begin at the other end.
        u = torch.special.ndtr(-case.inputs["z"].double()) if run.get("lognorm") else 1.0 - case.inputs["uniform"].double()
        got |= {f"{tag}_{name}": value for name, value in _loss(case, made, process.times(u), run).items()}
        if isinstance(process.times, Uniform):
            got[f"{tag}_interval"] = torch.tensor([1.0 - process.times.high, 1.0 - process.times.low])
        grads = [key.removeprefix(f"{tag}_grad_") for key in case.outputs if key.startswith(f"{tag}_grad_")]
        got |= {f"{tag}_{name}": value for name, value in gradients(made, grads).items()}
    return got


def _loss(case: Case, made: LatentDiffusion, t: Tensor, run: dict[str, Any]) -> dict[str, Tensor]:
    process: ContinuousProcess = made.process  # type: ignore[assignment]
    parameterization: Parameterization = made.parameterization
    c = made.condition({"label": case.inputs["y"]})
    data, noise = case.inputs["x1"], case.inputs["x0"]

    def network(z_t: Tensor, times: Tensor) -> Tensor:
        return as_noise(made.output(z_t, times, c), process.sigma(times, z_t), run["prediction"])

    plain = DiffusionObjective(weight=WEIGHTINGS[run["loss_weight"]])
    errors = plain.errors(network, data, t, noise, process, parameterization)
    each = [plain(errors[i : i + 1], t[i : i + 1], process, parameterization)[0] for i in range(len(t))]
    got = {"t": 1.0 - t, "loss": torch.stack(each), "xt": process.add_noise(data, t, noise)}
    whole = DiffusionObjective(weight=plain.weight, cosine_weight=1.0 if run.get("cosine") else 0.0)
    both = whole.errors(network, data, t, noise, process, parameterization)
    got["cos_loss"] = both - errors
    got["total"] = whole(both, t, process, parameterization)[0]
    got["total"].backward()
    return got


def times(case: Case) -> dict[str, Tensor]:
    """How times are drawn in training, and where a sampler stops."""
    u = torch.special.ndtr(-case.inputs["z"].double())
    got = {"logit_normal": 1.0 - LogitNormal()(u), "uniform": 1.0 - Uniform()(1.0 - case.inputs["uniform"].double())}
    got |= {f"logit_normal_mu{mu}": 1.0 - LogitNormal(-mu)(u) for mu in case.params["shifted_mu"]}
    for points, shift in case.params["grids"]:
        stops = RectifiedFlow(shift=1.0 / shift if shift else 1.0).uniform(points - 1)
        got[f"grid_n{points}_shift{shift}"] = 1.0 - torch.tensor(stops, dtype=torch.float64)
    return got


def latents(case: Case) -> dict[str, Tensor]:
    """Latents with mean 0 and deviation 1 in every channel, or as they are."""
    z, factor = case.inputs["latents"], case.params["latent_multiplier"]
    net = UNet(z.shape[1], z.shape[1], 32, [1], heads=1)
    made, plain = (
        LatentDiffusion(IdentityFirstStage(z.shape[1]), net, RectifiedFlow(), None, "velocity", scale) for scale in ("channels", factor)
    )
    made.set_scale(made.moments(z))
    assert made.mean is not None
    outputs = {"mean": made.mean[None], "std": 1.0 / made.scale[None], "labels": case.inputs["labels"]}
    for name, given in (("plain", "latents"), ("flip", "latents_flip")):
        if given in case.inputs:
            x = case.inputs[given]
            outputs[name] = factor * made.scaled(x) if case.params["latent_norm"] else plain.scaled(x)
    return outputs
