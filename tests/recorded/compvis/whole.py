"""Recorded cases of complete checkpoints, from batch to image, and of the ways in which a condition reaches the network."""

import re
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.conditioning import Conditioning, GivenContext, LabelMap
from ldm.config import AllowedTargets, build
from ldm.data.batch import Batch
from ldm.diffusion.objective import DiffusionObjective
from ldm.diffusion.process.spacing import original_uniform
from ldm.diffusion.sampling import ddim
from ldm.diffusion.weighting import vlb_weights
from ldm.interop.compvis.model import Translated, latent_diffusion
from ldm.interop.compvis.nodes import split
from ldm.interop.compvis.state import discrete, from_state
from ldm.model import LatentDiffusion, std_scale
from recorded.case import Case


def _model(said: Translated, weights: dict[str, Tensor]) -> LatentDiffusion:
    model: LatentDiffusion = build(said.model, AllowedTargets()).eval()
    model.load_state_dict(weights, strict=False)
    return model


def _losses(case: Case, model: LatentDiffusion, said: Translated, z: Tensor, c: Conditioning) -> dict[str, Tensor]:
    """Total, simple and bound loss at the recorded times and noise."""
    objective: DiffusionObjective = build(said.objective, AllowedTargets())
    if objective.log_variance is not None and "logvar" in case.weights:
        objective.log_variance.data.copy_(case.weights["logvar"])
    t = case.inputs["t"]
    network = lambda z_t, t: model.output(z_t, t, c)  # noqa: E731
    errors = objective.errors(network, z, t, case.inputs["noise"], model.process, model.parameterization)
    total, logs = objective(errors, t, model.process, model.parameterization)
    bound = (vlb_weights(discrete(model), model.parameterization, "original")[t] * errors).mean()
    return {"loss": total, "loss_simple": logs["loss_simple"], "loss_vlb": bound}


@torch.no_grad()
def conditioning(case: Case) -> dict[str, Tensor]:
    """One evaluation and the losses for a condition given as the network takes it (class index, channels, tokens)."""
    said = latent_diffusion(case.target.split()[0], case.params)
    bare: LatentDiffusion = build(said.model, AllowedTargets())
    model = _model(said, from_state(bare, case.weights, case.name).chosen(raw=True))
    vector = None
    if "y" in case.inputs:
        assert model.network.vector_channels is not None
        vector = F.one_hot(case.inputs["y"], model.network.vector_channels).float()
    given = {key: case.inputs.get(f"c_{key}", case.inputs.get(key)) for key in ("concat", "crossattn")}
    given.setdefault("c", case.inputs.get("c"))
    if given["c"] is not None:  # a single condition goes where the key says
        default = "concat" if case.params.get("concat_mode", True) else "crossattn"
        given[case.params.get("conditioning_key") or default] = given["c"]
    c = Conditioning(given["crossattn"], given["concat"], vector)
    return {"model_out": model.output(case.inputs["x"], case.inputs["t"], c), **_losses(case, model, said, case.inputs["x"], c)}


@torch.no_grad()
def checkpoint(case: Case) -> dict[str, Tensor]:
    """A tiny checkpoint with its config: latent, condition, losses, five DDIM steps, images."""
    target, params = split(case.params["model"], "model")
    said = latent_diffusion(target, params)
    weights = from_state(build(said.model, AllowedTargets()), case.weights, case.name)
    used, trained = (_model(said, weights.chosen(raw)) for raw in (False, True))
    x, posterior = _nchw(case.inputs[f"{params.get('first_stage_key', 'image')}_bhwc"]), case.inputs.get("posterior_noise")
    z, c = used.encode(x, posterior), _condition(case, used)
    losses = _losses(case, trained, said, z, c)
    samples = {name: _sample(case, used if match[2] else trained, c, int(match[1])) for name, match in _samplings(case)}
    got = {
        "z": z,
        "loss": losses["loss"],
        **{f"val/{name}": value for name, value in losses.items()},
        "loss_ema_weights": _losses(case, used, said, z, c)["loss"],
        **samples,
        "reconstruction": used.decode(z),
    }
    if samples:
        got["decoded"] = used.decode(list(samples.values())[-1])
    shown = next((value for value in (c.context, c.concat, c.vector) if value is not None), None)
    if shown is not None:
        got["c"] = shown
    if "std_noise" in case.inputs:
        latent = used.first_stage.encode(x, case.inputs["std_noise"])
        sums = (latent.numel(), float(latent.double().sum()), float(latent.double().square().sum()))
        got |= {"std_latent_unscaled": latent, "std_scale_factor": torch.tensor(std_scale(*sums))}
    return got


def _samplings(case: Case) -> list[tuple[str, re.Match[str]]]:
    """Outputs named after a number of DDIM steps: with the average, or with the weights as trained."""
    return [(name, match) for name in case.outputs if (match := re.fullmatch(r"ddim(\d+)(_ema)?", name))]


def _sample(case: Case, model: LatentDiffusion, c: Conditioning, steps: int) -> Tensor:
    times = original_uniform(discrete(model).T, steps)
    return ddim(lambda z_t, t: model.denoise(z_t, t, c), case.inputs["x_T"], model.process, times, noise=torch.zeros_like)


def _nchw(x: Tensor) -> Tensor:
    return x.movedim(-1, 1)


def _condition(case: Case, model: LatentDiffusion) -> Conditioning:
    """Through the model's own conditioner, from the recorded batch in our keys."""
    conditioner: Any = model.conditioner
    if "tokens" in case.inputs:
        return Conditioning(context=conditioner.transformer(case.inputs["tokens"]))
    if isinstance(conditioner, GivenContext):  # an identity conditioner: the batch's entry is the context
        key = case.params["model"]["params"].get("cond_stage_key", "")
        return Conditioning(context=next(case.inputs[name] for name in (key, "embedding", "context", "c") if name in case.inputs))
    batch: Batch = {}
    for key, value in case.inputs.items():
        name = key.removesuffix("_bhwc")
        if name == "class_label":
            batch["label"] = value
        elif name == "segmentation":
            assert isinstance(conditioner, LabelMap)
            batch["segmentation"] = value.argmax(-1)
        elif name == "mask":
            batch["mask"] = (_nchw(value) + 1.0) / 2.0
        elif key.endswith("_bhwc"):
            batch["low_res" if name == "LR_image" else name] = _nchw(value)
    return model.condition(batch)
