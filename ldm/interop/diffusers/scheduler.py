"""Discrete process and parameterization <-> `scheduler_config.json`.

The steps of the scheduler written are those of `uniform` wherever the number of steps divides T: from T-1 down to clean data.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.config import AllowedTargets, build
from ldm.diffusion import DiscreteProcess, cosine, linear, scaled_linear
from ldm.errors import UserError
from ldm.interop.diffusers.settings import OWN, Settings, parameters
from ldm.interop.settings import Node

PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
NAMES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}  # ours -> theirs
MADE: dict[str, Callable[..., DiscreteProcess]] = {"linear": linear, "scaled_linear": scaled_linear, "cosine": cosine}
CLASSES = (  # that read betas and prediction_type alike; they differ in sampling only
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
)
SAMPLING = {"clip_sample": True, "thresholding": False}  # change samples, not the model; with diffusers' defaults
NEAR = 1e-6  # relative: further off, betas are written out


def write_scheduler(process: DiscreteProcess, node: Node, parameterization: str) -> dict[str, Any]:
    """`scheduler_config.json` of a `DDIMScheduler`.

    Args:
        process: the model's.
        node: of the process.
        parameterization: "eps", "x0" or "v".
    """
    made: dict[str, Any] = {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": process.T,
        "prediction_type": PREDICTIONS[parameterization],
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 0,
        "timestep_spacing": "trailing",
    }
    named = _named(node)
    betas = process.betas
    if named is not None and _near(_betas(named, process.T), betas):
        return {**made, **named}
    return {**made, "trained_betas": betas.tolist(), OWN: {"process": node}}


def read_scheduler(settings: Settings) -> tuple[Node, str, list[str]]:
    """Process node, parameterization and notes from a scheduler's settings.

    Raises:
        UserError: a class or setting that changes the noise schedule in a way this project has no name for.
    """
    kind = settings.take("prediction_type", "epsilon")
    if kind not in PREDICTIONS.values():
        raise settings.wrong("prediction_type", kind, " or ".join(map(repr, PREDICTIONS.values())))
    settings.expect("use_flow_sigmas", False)
    if str(variance := settings.take("variance_type", None)).startswith("learned"):
        raise settings.wrong("variance_type", variance, "a variance that the network does not predict")
    node = _node(settings)
    notes = [
        f"{settings.where}: {key}={value!r} only affects sampling and is not converted"
        for key, default in SAMPLING.items()
        if (value := settings.take(key, default))
    ]
    return node, next(ours for ours, theirs in PREDICTIONS.items() if theirs == kind), notes


def check_class(path: Path, name: Any) -> None:
    """Require a class whose settings have the same meaning as in `DDIMScheduler`."""
    if name not in CLASSES:
        raise UserError(f"{path}: _class_name={name!r} is not supported, expected {' or '.join(CLASSES)}")


def _named(node: Node) -> dict[str, Any] | None:
    """The schedule by a name that diffusers knows, if it has one."""
    name = str(node.get("target", "")).removeprefix("ldm.diffusion.")
    if name not in NAMES:
        return None
    values = parameters(node, "process", {f"ldm.diffusion.{name}": MADE[name]})
    if values["zero_terminal_snr"]:
        return None  # they stretch the schedule in float32, which moves its end too far
    ends = {"beta_start": values["start"], "beta_end": values["end"]} if name != "cosine" else {}
    return {"beta_schedule": NAMES[name], **ends}


def _betas(named: dict[str, Any], T: int) -> Tensor:
    """The betas that diffusers computes for a named schedule, in its precision."""
    if named["beta_schedule"] == "squaredcos_cap_v2":
        return cosine(T).betas.float()
    start, end = named["beta_start"], named["beta_end"]
    if named["beta_schedule"] == "linear":
        return torch.linspace(start, end, T, dtype=torch.float32)
    return torch.linspace(start**0.5, end**0.5, T, dtype=torch.float32) ** 2


def _near(found: Tensor, betas: Tensor) -> bool:
    return found.shape == betas.shape and bool(((found.double() - betas).abs() <= NEAR * betas).all())


def _node(settings: Settings) -> Node:
    T, kind = settings.take("num_train_timesteps", 1000), settings.take("beta_schedule", "linear")
    start, end = settings.take("beta_start", 0.0001), settings.take("beta_end", 0.02)
    stretched, trained = settings.take("rescale_betas_zero_snr", False), settings.take("trained_betas", None)
    if trained is not None:
        if stretched:
            raise settings.wrong("rescale_betas_zero_snr", stretched, "False beside trained_betas")
        return _recognised(torch.tensor(trained, dtype=torch.float64), settings.own.get("process", settings.own.get("schedule")))
    name = next((ours for ours, theirs in NAMES.items() if theirs == kind), None)
    if name is None:
        raise settings.wrong("beta_schedule", kind, " or ".join(map(repr, NAMES.values())))
    ends = {"start": start, "end": end} if name != "cosine" else {}
    return {"target": f"ldm.diffusion.{name}", "params": {"T": T, **ends, **({"zero_terminal_snr": True} if stretched else {})}}


def _recognised(betas: Tensor, named: Any) -> Node:
    """The node that makes these betas: the one that the file names, one of a family, or the numbers themselves."""
    if isinstance(named, dict):
        process = build(named, AllowedTargets(), "process")
        if isinstance(process, DiscreteProcess) and torch.equal(process.betas, betas):
            return named
    ends = {"start": float(betas[0]), "end": float(betas[-1])}
    for name, make in MADE.items():
        params = {"T": len(betas), **(ends if name != "cosine" else {})}
        if _near(make(**params).betas, betas):
            return {"target": f"ldm.diffusion.{name}", "params": params}
    return {"target": "ldm.diffusion.from_betas", "params": {"betas": betas.tolist()}}
