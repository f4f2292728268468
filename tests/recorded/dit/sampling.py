"""Recorded cases of deterministic and ancestral sampling."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ldm.conditioning import Conditioning
from ldm.diffusion import DiffusionObjective, Guidance, cosine, linear
from ldm.diffusion.guidance import Denoise, classifier_free
from ldm.diffusion.parameterization import PARAMETERIZATIONS, Prediction
from ldm.diffusion.process import DiscreteProcess
from ldm.diffusion.sampling import Hooks, ddim, ddpm, euler, heun
from ldm.model import LatentDiffusion
from recorded.case import Case, Unsupported
from recorded.dit.networks import GUIDED, gradients, model
from recorded.dit.transport import as_noise, interval, parameterization_of, process_of

SOLVERS = ("euler", "heun2", "dopri5")
FINE = 64  # Heun steps between two points where only an accurate solution is required
VARIANCES = Unsupported("learned variances are read and kept, not used")


def _denoiser(made: LatentDiffusion, labels: Tensor, prediction: str, guidance: Guidance | None) -> Denoise:
    """Of z; guided, of a doubled batch whose second half has the guided channels too, its own others, and is not kept by them."""

    def output(z: Tensor, t: float, c: Conditioning) -> Tensor:
        time = made.process.time(t, z)
        return as_noise(made.output(z, time, c), made.process.sigma(t, z), prediction)

    c = made.condition({"label": labels})
    read = made.parameterization
    if guidance is None:
        return lambda z, t: read.predict(output(z, t, c), z, made.process.at(t, z))
    null = made.condition(made.conditioner.drop({"label": labels}, [True] * len(labels)))
    both = c.followed_by(null)

    def doubled(z: Tensor, t: float) -> Prediction:
        half, at = z.chunk(2)[0], made.process.at(t, z)
        known, plain = output(torch.cat([half, half]), t, both).chunk(2)
        predicted = [read.predict(x, half, at) for x in (known, plain)]
        pair = Prediction(*(torch.cat(views) for views in zip(*predicted, strict=True)))
        guided = classifier_free(lambda *_: pair, lambda *_: predicted[0], guidance, made.process)(half, t)
        first = read.target(guided.z_0, guided.eps, at)
        second = torch.cat([first[:, :GUIDED], plain[:, GUIDED:]], dim=1)
        return read.predict(torch.cat([first, second]), z, at)

    return doubled


@torch.no_grad()
def ode(case: Case) -> dict[str, Tensor | Unsupported]:
    """The complete path of every run."""
    got: dict[str, Tensor | Unsupported] = {}
    program = case.target.partition(".")[0]
    for tag, run in case.params["runs"].items():
        method = run["method"]
        if method not in SOLVERS:
            got[tag] = Unsupported(f"solver {method} is not built: euler and heun are")
            continue
        shift = run.get("timestep_shift")
        process = process_of(run["path"], run["prediction"], sampling=True, shift=1.0 / shift if shift else 1.0)
        made = model(case.params["model"], case.weights, program, process, parameterization_of(run["prediction"]))
        start = run.get("cfg_interval_start", 0.0)
        guidance = Guidance(run["cfg"], (0.0, 1.0 - start), channels=GUIDED) if "cfg" in run else None
        denoise = _denoiser(made, case.inputs["y"], run["prediction"], guidance)
        z = case.inputs["z"]
        z = torch.cat([z, z]) if guidance else z
        got[tag] = _path(run, process, denoise, z)
    return got


def _path(run: dict[str, Any], process: Any, denoise: Denoise, z: Tensor) -> Tensor:
    t0, t1 = interval(run["path"], run["prediction"], sampling=True)
    steps = run["num_steps"] - 1
    fine = FINE if run["method"] == "dopri5" else 1
    times = [1.0 - t0 - (t1 - t0) * (1.0 - t) for t in process.uniform(steps * fine)]
    if run.get("reverse"):
        times = times[::-1]
    states = [z]

    def after(z_s: Tensor, z_0: Tensor, t: float) -> Tensor:
        states.append(z_s)
        return z_s

    if run["method"] == "euler":
        times[-1] = times[-1] or 1e-9  # theirs steps onto clean data as onto any other time, and not with the predicted latent
        euler(denoise, z, process, times, noise=torch.zeros_like, hooks=Hooks(after=after))
    else:
        at_clean = run["prediction"] == "velocity"
        heun(denoise, z, process, times, noise=torch.zeros_like, hooks=Hooks(after=after), at_clean=at_clean)
    return torch.stack(states[::fine])


def diffusion(case: Case) -> dict[str, Tensor | Unsupported]:
    """DiT's training loss, its predictions, its spacings and its samplers."""
    options = {key: value for key, value in case.params["diffusion"].items() if key != "learn_sigma"}
    process, read = _process(options)
    made = model(case.params["model"], case.weights, "DiT", process, read)
    learned = case.params["model"]["learn_sigma"]
    got: dict[str, Tensor | Unsupported] = _training(case, made, learned)
    with torch.no_grad():
        got |= _predictions(case, made, learned)
        for spacing in case.params["spacings"]:
            key = f"map_{spacing.replace(',', '-')}"
            if spacing.isdigit():
                got[key] = torch.tensor(process.spacings()["linspace"](int(spacing))[-2::-1])
            else:
                got[key] = Unsupported("strides from 0 (ddimN) and sections are not built as spacings: uniform and linspace are")
        for tag, run in case.params["runs"].items():
            got[tag] = VARIANCES if learned and run["sampler"] == "ddpm" else _sample(case, made, tag, run)
    return got


def _training(case: Case, made: LatentDiffusion, learned: bool) -> dict[str, Tensor | Unsupported]:
    inputs, objective, c = case.inputs, DiffusionObjective(), made.condition({"label": case.inputs["y"]})
    arguments = inputs["x0"], inputs["t"], inputs["noise"], made.process, made.parameterization
    errors = objective.errors(lambda z, t: made.output(z, t, c), *arguments)
    errors[1:].mean().backward()
    bound = dict.fromkeys(("train_vb", "train_loss", "t0_vb", "grad_final_layer.linear.weight"), VARIANCES)
    got = {"train_mse": errors, "train_loss": errors, **gradients(made, ["final_layer.linear.weight"])}
    return {**got, **(bound if learned else {}), "q_sample": made.process.add_noise(inputs["x0"], inputs["t"], inputs["noise"])}


def _predictions(case: Case, made: LatentDiffusion, learned: bool) -> dict[str, Tensor | Unsupported]:
    """Mean and variance of q(z_s | z_t, z_0) with the predicted z_0, clipped and not."""
    process: DiscreteProcess = made.process  # type: ignore[assignment]
    t, c = case.inputs["t"], made.condition({"label": case.inputs["y"]})
    z = process.add_noise(case.inputs["x0"], t, case.inputs["noise"])
    z_0 = made.parameterization.predict(made.output(z, t, c), z, process.at(t, z)).z_0
    # Theirs are the larger of the two fixed variances, but for the first time, which has that of the second.
    variance = process.betas[t].float().view(-1, 1, 1, 1).expand_as(z).clone()
    one = torch.ones(len(z), dtype=torch.int64)
    variance[t == 0] = process.posterior(z_0, z, one, one - 1).variance.expand_as(z)[t == 0]
    got: dict[str, Tensor | Unsupported] = {}
    for clip in (0, 1):
        predicted = z_0.clamp(-1, 1) if clip else z_0
        got[f"p_clip{clip}_pred_xstart"] = predicted
        got[f"p_clip{clip}_mean"] = process.posterior(predicted, z, t, t - 1).mean
        got[f"p_clip{clip}_variance"] = VARIANCES if learned else variance
        got[f"p_clip{clip}_log_variance"] = VARIANCES if learned else variance.log()
    return got


def _process(options: dict[str, Any]) -> tuple[DiscreteProcess, str]:
    """The schedule, and what is predicted."""
    T, kind = options.pop("diffusion_steps", 1000), options.pop("noise_schedule", "linear")
    read = "x0" if options.pop("predict_xstart", False) else "eps"
    if options or kind not in ("linear", "squaredcos_cap_v2"):
        raise ValueError(f"unknown diffusion options: {options or kind}")
    return cosine(T) if kind != "linear" else linear(T, 0.1 / T, 20.0 / T), read


def _times(T: int, spacing: str) -> list[int]:
    """Theirs: steps spread over each of some sections from one end to the other, or steps of a fixed stride from 0."""
    if spacing.startswith("ddim"):
        return [*reversed(range(0, T, T // int(spacing.removeprefix("ddim")))), -1]
    counts, kept, start = [int(word) for word in spacing.split(",")], [-1], 0
    for i, count in enumerate(counts):
        size = T // len(counts) + (i < T % len(counts))
        kept += [start + round(k * (size - 1) / max(count - 1, 1)) for k in range(count)]
        start += size
    return kept[::-1]


def _sample(case: Case, made: LatentDiffusion, tag: str, run: dict[str, Any]) -> Tensor:
    guidance = Guidance(run["cfg"], channels=GUIDED) if "cfg" in run else None
    plain = _denoiser(made, case.inputs["sample_y"], "noise", guidance)
    z = case.inputs["z"]
    z = torch.cat([z, z]) if guidance else z

    def clipped(z_t: Tensor, t: float) -> Prediction:
        return PARAMETERIZATIONS["x0"].predict(plain(z_t, t).z_0.clamp(-1, 1), z_t, made.process.at(t, z_t))

    noises: Iterator[Tensor] = iter(case.inputs[f"{tag}_noise"])
    noise: Callable[[Tensor], Tensor] = lambda _: next(noises)  # noqa: E731
    denoise, times = clipped if run["clip"] else plain, _times(len(made.process.betas), run["spacing"])  # type: ignore[arg-type]
    if run["sampler"] == "ddpm":
        return ddpm(denoise, z, made.process, times, noise=noise, v=1.0)  # the larger variance, as theirs
    return ddim(denoise, z, made.process, times, noise=noise, eta=run["eta"])
