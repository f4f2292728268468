"""Recorded cases of losses: of the first stage with its adversary, and of diffusion."""

import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.config import AllowedTargets, build
from ldm.diffusion.objective import DiffusionObjective
from ldm.diffusion.weighting import vlb_weights
from ldm.first_stage.base import Reconstruction
from ldm.first_stage.kl import DiagonalGaussian
from ldm.first_stage.loss import AutoencoderLoss
from ldm.first_stage.vq import use_of_codes
from ldm.interop.compvis.model import latent_diffusion
from ldm.interop.compvis.names import names_of
from ldm.interop.compvis.state import discrete
from ldm.interop.compvis.training import first_stage_loss
from ldm.model import LatentDiffusion
from recorded.case import Case
from recorded.compvis.weights import from_compvis


class Squared(nn.Module):
    """What the recordings used instead of LPIPS: mean squared error per image, `(B,)`."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().flatten(1).mean(1)


def _loss(case: Case, params: dict[str, Any], kind: str) -> tuple[AutoencoderLoss, float]:
    """A fresh loss with the case's discriminator, and their `disc_factor`, which ours has inside its weight."""
    node = first_stage_loss(case.target, {**params, "disc_factor": 1.0}, kind)
    node["params"].pop("perceptual", None)
    loss: AutoencoderLoss = build(node, AllowedTargets())
    if params.get("perceptual_weight", 1.0):
        loss.perceptual = Squared()  # type: ignore[assignment]
    assert loss.discriminator is not None
    mine = {name.removeprefix("discriminator."): value for name, value in case.weights.items() if name.startswith("discriminator.")}
    from_compvis(loss.discriminator, mine)
    return loss.train(), float(params.get("disc_factor", 1.0))


def _runs(case: Case) -> dict[str, tuple[dict[str, Any], int, bool]]:
    """`<group>s<step>[_w]_` -> the group's parameters, the step, whether samples are weighted."""
    found = {}
    for key in case.outputs:
        for group, params in case.params.items():
            match = re.match(rf"{re.escape(group)}s(\d+)_(w_)?", key)
            if match:
                found[match[0]] = (params, int(match[1]), match[2] is not None)
    return found


def _generator(
    case: Case, loss: AutoencoderLoss, factor: float, step: int, weights: Tensor | None, make: Callable[[Tensor], Reconstruction]
) -> tuple[dict[str, Tensor], Tensor]:
    """What both kinds of first stage record of the generator's side; the last layer with its gradient."""
    last = case.inputs["last_layer"].clone().requires_grad_()
    y = make(F.conv2d(case.inputs["h"], last, padding=1))
    x = case.inputs["x"]
    start, loss.adversarial_start = loss.adversarial_start, step + 1  # first without the adversary
    total, logs = loss.generator(x, y, step, last, weights)
    # Adversary and adaptive weight are recorded even where they do not count yet.
    loss.adversarial_start = step
    logs |= {key: value for key, value in loss.generator(x, y, step, last, weights)[1].items() if key.startswith("adversarial")}
    loss.adversarial_start = start
    if loss.adversary_on(step):
        total, _ = loss.generator(x, y, step, last, weights)
        total = total + (factor - 1.0) * logs["adversarial_weight"] * -loss.discriminator(y.image).mean()  # type: ignore[misc]
    total.backward()
    on = factor * float(loss.adversary_on(step))
    got = {
        "g_total": total.detach(),
        "total_loss": total.detach(),
        "nll_loss": logs["reconstruction"],
        "rec_loss": logs["error"],
        "d_weight": logs["adversarial_weight"],
        "disc_factor": torch.tensor(on),
        "g_loss": logs["adversarial"],
        "grad_last_layer": last.grad,
    }
    return got, y.image.detach()  # type: ignore[return-value]


def _discriminator(case: Case, loss: AutoencoderLoss, factor: float, step: int, image: Tensor) -> dict[str, Tensor]:
    value, logs = loss.adversary(case.inputs["x"], image)
    on = factor * float(loss.adversary_on(step))
    got = {"d_loss": on * value.detach(), "d_disc_loss": on * value.detach()}
    got |= {"d_logits_real": logs["logits_real"], "d_logits_fake": logs["logits_fake"]}
    assert loss.discriminator is not None
    loss.discriminator.zero_grad()
    (on * value).backward()
    names = names_of(loss.discriminator)
    return got | {f"d_grad_{names[n]}": p.grad for n, p in loss.discriminator.named_parameters() if p.grad is not None}


def kl_loss(case: Case) -> dict[str, Tensor]:
    """Generator and discriminator losses of the KL models, with gradients."""
    got: dict[str, Tensor] = {}
    for prefix, (params, step, weighted) in _runs(case).items():
        moments = case.inputs["moments"].clone().requires_grad_()
        q = DiagonalGaussian.from_moments(moments)
        loss, factor = _loss(case, params, "kl")
        loss.log_variance.requires_grad_()
        weights = case.inputs["weights"] if weighted else None
        mine, image = _generator(case, loss, factor, step, weights, lambda x, q=q: Reconstruction(x, q.mean, q.kl()))  # type: ignore[misc]
        mine |= {"logvar": loss.log_variance.detach(), "kl_loss": q.kl().mean().detach()}
        mine |= {"grad_moments": moments.grad, "grad_logvar": loss.log_variance.grad}  # type: ignore[dict-item]
        fresh, factor = _loss(case, params, "kl")
        mine |= _discriminator(case, fresh, factor, step, image)
        got |= {prefix + key: value for key, value in mine.items()}
    return got


def vq_loss(case: Case) -> dict[str, Tensor]:
    """Generator and discriminator losses of the VQ models, and the codebook's statistics."""
    got: dict[str, Tensor] = {}
    for prefix, (params, step, _) in _runs(case).items():
        loss, factor = _loss(case, params, "vq")
        codebook = case.inputs["codebook_loss"]
        mine, image = _generator(case, loss, factor, step, None, lambda x, loss=codebook: Reconstruction(x, x, loss.expand(len(x))))  # type: ignore[misc]
        perceptual = torch.zeros(()) if loss.perceptual is None else loss.perceptual(case.inputs["x"], image).mean()
        mine |= {"quant_loss": codebook, "p_loss": perceptual}
        classes = params.get("n_classes")
        if classes:
            share, perplexity = use_of_codes(torch.bincount(case.inputs["indices"].flatten(), minlength=classes))
            mine |= {"perplexity": perplexity, "cluster_usage": (share * classes).round()}
        fresh, factor = _loss(case, params, "vq")
        mine |= _discriminator(case, fresh, factor, step, image)
        got |= {prefix + key: value for key, value in mine.items()}
    return got


def model_of(case: Case, params: dict[str, Any]) -> LatentDiffusion:
    """A model whose case gives the network's weights alone, with or without the prefix of a whole checkpoint."""
    target = "ddpm.LatentDiffusion" if "first_stage_config" in params else "ddpm.DDPM"
    model: LatentDiffusion = build(latent_diffusion(target, params).model, AllowedTargets()).eval()
    prefix = "model.diffusion_model."
    theirs = set(names_of(model.network).values())
    state = {name.removeprefix(prefix): value for name, value in case.weights.items()}
    from_compvis(model.network, {name: value for name, value in state.items() if name in theirs})
    return model


def diffusion_losses(case: Case) -> dict[str, Tensor]:
    """Training losses for every loss and target, with and without learned log variances; and the formulas around them."""
    got = _formulas(case, model_of(case, case.params["common"]))
    for key in sorted({match[0] for name in case.outputs if (match := re.match(r"(l1|l2)_(eps|x0)_(plain|logvar)_", name))}):
        loss, target, variance = key.rstrip("_").split("_")
        params = {**case.params["common"], "loss_type": loss, "parameterization": target, "learn_logvar": variance == "logvar"}
        got |= {key + name: value for name, value in _one_loss(case, params).items()}
    for loss in ("l1", "l2"):
        if any(name.startswith(f"pixel_{loss}_") for name in case.outputs):
            one = _one_loss(case, {**case.params["pixel_ddpm"], "loss_type": loss})
            got |= {f"pixel_{loss}_{name}": value for name, value in one.items()}
    return got


def _one_loss(case: Case, params: dict[str, Any]) -> dict[str, Tensor]:
    target = "ddpm.LatentDiffusion" if "first_stage_config" in params else "ddpm.DDPM"
    model = model_of(case, params).train()
    objective: DiffusionObjective = build(latent_diffusion(target, params).objective, AllowedTargets())
    x0, t, noise = (case.inputs[name] for name in ("x0", "t", "noise"))
    if objective.log_variance is not None:
        objective.log_variance.data.copy_(case.inputs["logvar"])
    errors = objective.errors(model.network, x0, t, noise, model.process, model.parameterization)
    total, logs = objective(errors, t, model.process, model.parameterization)
    total.backward()
    bound = (vlb_weights(discrete(model), model.parameterization, "original")[t] * errors).mean()
    got = {"loss": total.detach(), "loss_simple": logs["loss_simple"], "loss_vlb": bound.detach()}
    names = {theirs: ours for ours, theirs in names_of(model.network).items()}
    gradients = {name: p.grad for name, p in model.network.named_parameters()}
    got |= {f"grad_{theirs}": gradients[ours] for theirs, ours in names.items() if gradients.get(ours) is not None}  # type: ignore[misc]
    if objective.log_variance is not None and objective.log_variance.grad is not None:
        s_t = objective.log_variance.detach()[t]
        got["loss_gamma"] = (errors.detach() / s_t.exp() + s_t).mean()
        got |= {"logvar": objective.log_variance.detach().mean(), "grad_logvar": objective.log_variance.grad[t]}
    return got


def _formulas(case: Case, model: LatentDiffusion) -> dict[str, Tensor]:
    x0, t, noise = (case.inputs[name] for name in ("x0", "t", "noise"))
    process = discrete(model)
    alpha, sigma = process.alpha(t, x0), process.sigma(t, x0)
    z_t = process.add_noise(x0, t, noise)
    mean, variance = process.posterior(x0, z_t, t, t - 1)
    return {
        "q_sample": z_t,
        "q_mean": alpha * x0,
        "q_var": sigma**2,
        "q_logvar": (sigma**2).log(),
        "post_mean": mean,
        "post_var": variance,
        "post_logvar": variance.clamp(min=1e-20).log(),
        "x0_from_eps": (z_t - sigma * noise) / alpha,
        "eps_from_x0": (z_t - alpha * x0) / sigma,
        "prior_bpd": process.prior_bits(x0),
    }
