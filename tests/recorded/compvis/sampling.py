"""Recorded cases of samplers. What a run was stands in its name, such as `ddim_cfg3_eta05_temp08`."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ldm.conditioning import Conditioning
from ldm.diffusion.guidance import Denoise, Guidance, classifier_free
from ldm.diffusion.parameterization import Prediction
from ldm.diffusion.process.spacing import original_uniform, uniform
from ldm.diffusion.sampling import Hooks, ddim, ddpm, plms
from ldm.first_stage.vq import VQAutoencoder
from ldm.interop.compvis.state import discrete
from ldm.model import LatentDiffusion
from recorded.case import Case
from recorded.compvis.losses import model_of

SAMPLERS = {"ddim": ddim, "plms": plms}
WORDS = ("S", "cfg", "scale", "eta", "temp", "mask", "partial", "t", "steps")


def words_of(tag: str) -> tuple[str, dict[str, str]] | None:
    """ "ddim_cfg3_eta05" -> ("ddim", {"cfg": "3", "eta": "05"}); a bare number is the number of steps. None: not such a name."""
    first, *rest = tag.split("_")
    said: dict[str, str] = {}
    for word in rest:
        match = re.fullmatch(r"([A-Za-z]*)([\d.]*)", word)
        name = (match[1] or "steps") if match else ""
        if match is None or name not in WORDS:
            return None
        said[name] = match[2]
    return (first, said) if first in (*SAMPLERS, "eps") else None


def number(text: str | None, default: float) -> float:
    """ "3" is 3, "05" is 0.5, "0.25" is 0.25."""
    if text is None:
        return default
    return float(f"0.{text[1:]}") if re.fullmatch(r"0\d+", text) else float(text)


@dataclass
class Log:
    """What their samplers log: z and the predicted clean latent, of every `every`-th step from the end and of the first.

    Both lists begin with the start noise.
    """

    steps: int
    every: int
    z: list[Tensor] = field(default_factory=list)
    z_0: list[Tensor] = field(default_factory=list)
    done: int = 0

    def after(self, z_s: Tensor, z_0: Tensor, t: float) -> Tensor:
        self.done += 1
        left = self.steps - self.done
        if left % self.every == 0 or left == self.steps - 1:
            self.z.append(z_s)
            self.z_0.append(z_0)
        return z_s


def _every(case: Case, steps: int, recorded: Tensor | None) -> int:
    """Their `log_every_t`: as given, or from the number of entries."""
    said = re.search(r"log_every_t[ =:]*(\d+)", case.what)
    if said:
        return int(said[1])
    count = len(recorded) - 1 if recorded is not None else 0
    fits = (k for k in range(1, steps + 1) if len({*range(0, steps, k), steps - 1}) == count)
    return next(fits, 1)


def _noises(recorded: Tensor | None, factor: float = 1.0) -> Iterator[Tensor]:
    yield from () if recorded is None else (factor * noise for noise in recorded)


def _mask_before(case: Case, tag: str, model: LatentDiffusion) -> Hooks:
    """Known places (mask 1) are put back, noised, before each step."""
    mask, x0, noises = case.inputs["mask"], case.inputs["x0"], _noises(case.inputs[f"{tag}_qnoise"])

    def before(z: Tensor, t: float) -> Tensor:
        known = model.process.add_noise(x0, t, next(noises))
        return known * mask + (1.0 - mask) * z

    return Hooks(before=before)


def _denoiser(case: Case, model: LatentDiffusion, scale: float) -> Denoise:
    """Conditioned on `in.c`, guided against `in.uc`."""
    c = Conditioning(context=case.inputs.get("c"))

    def conditional(z: Tensor, t: float) -> Prediction:
        return model.denoise(z, t, c)

    if scale == 1.0 or "uc" not in case.inputs:
        return conditional
    both = c.followed_by(Conditioning(context=case.inputs["uc"]))
    return classifier_free(lambda z, t: model.denoise(z, t, both), conditional, Guidance(scale), model.process)


@torch.no_grad()
def ddim_and_plms(case: Case) -> dict[str, Tensor]:
    """Their two samplers on their spacing: eta, guidance, temperature, masks, fewer steps, quantised predictions."""
    model = model_of(case, case.params)
    got: dict[str, Tensor] = {}
    if "ddim" in case.outputs and "pred_x0" in case.outputs:
        codebook = next(value for name, value in case.weights.items() if name.endswith("quantize.embedding.weight"))
        return _quantised(case, model, codebook)
    for tag in case.outputs:
        name = words_of(tag)
        if name is None:
            continue
        first, said = name
        if first == "eps":
            got[tag] = _denoiser(case, model, number(said.get("cfg", said.get("scale")), 1.0))(case.inputs["x_T"], int(said["t"])).eps
        else:
            log = _run(case, model, tag, first, said)
            got |= {tag: log.z[-1], f"{tag}_pred_x0": torch.stack(log.z_0)}
    return got


def _run(case: Case, model: LatentDiffusion, tag: str, sampler: str, said: dict[str, str]) -> Log:
    steps = int(said.get("S") or said.get("steps") or case.inputs["S"])
    times = original_uniform(discrete(model).T, steps)
    if "partial" in said:  # their arithmetic leaves one step less than it says
        kept = int(min(int(said["partial"]) / (len(times) - 1), 1.0) * (len(times) - 1)) - 1
        times = times[-kept - 1 :]
    z_T = case.inputs["x_T"]
    log = Log(len(times) - 1, _every(case, len(times) - 1, case.outputs.get(f"{tag}_pred_x0")), [z_T], [z_T])
    before = _mask_before(case, tag, model) if "mask" in said else Hooks()
    denoise = _denoiser(case, model, number(said.get("cfg", said.get("scale")), 1.0))
    noises = _noises(case.inputs.get(f"{tag}_noise"), number(said.get("temp"), 1.0))
    options: dict[str, Any] = {"eta": number(said.get("eta"), 0.0)} if sampler == "ddim" else {}
    hooks = Hooks(before.before, log.after)
    z = SAMPLERS[sampler](denoise, z_T, model.process, times, noise=lambda _: next(noises), hooks=hooks, **options)
    log.z.append(z)
    return log


def _quantised(case: Case, model: LatentDiffusion, codebook: Tensor) -> dict[str, Tensor]:
    """Every predicted clean latent snaps to its nearest code before the step is made (eta 1)."""
    stage = model.first_stage
    assert isinstance(stage, VQAutoencoder)
    stage.codebook.embedding.weight.copy_(codebook)
    denoise = with_clean(_denoiser(case, model, 1.0), lambda z_0: stage.codebook.lookup(stage.codebook.codes(z_0)))
    times, z_T = original_uniform(discrete(model).T, int(case.inputs["S"])), case.inputs["x_T"]
    log = Log(len(times) - 1, _every(case, len(times) - 1, case.outputs["pred_x0"]), [z_T], [z_T])
    noises = _noises(case.inputs["noise"])
    z = ddim(denoise, z_T, model.process, times, noise=lambda _: next(noises), eta=1.0, hooks=Hooks(after=log.after))
    return {"ddim": z, "pred_x0": torch.stack(log.z_0), "x_inter": torch.stack(log.z)}


def with_clean(denoise: Denoise, change: Callable[[Tensor], Tensor]) -> Denoise:
    """Change the predicted clean latent (clamp it, snap it to a codebook) and leave the predicted noise as it is."""

    def changed(z_t: Tensor, t: float) -> Prediction:
        eps, z_0 = denoise(z_t, t)
        return Prediction(eps, change(z_0))

    return changed


@torch.no_grad()
def ancestral(case: Case) -> dict[str, Tensor]:
    """DDPM: the whole chain, with a mask, shortened and cooled, for x0 prediction, and clamped in pixel space."""
    got: dict[str, Tensor] = {}
    models = {group: model_of(case, {**params, "v_posterior": 0.0}) for group, params in case.params.items()}
    z_T, plain = case.inputs["x_T"], models.get("ddpm")
    for tag in [key.removesuffix("_noise") for key in case.inputs if key.endswith("_noise")]:
        noises = _noises(case.inputs[f"{tag}_noise"])
        if tag == "prog" and plain is not None:
            got |= _progressive(case, plain)
            continue
        group = next((name for name in models if tag.startswith(name) and name != "ddpm"), "ddpm")
        model, params = models[group], case.params[group]
        denoise = _denoiser(case, model, 1.0)
        if "first_stage_config" not in params and params.get("clip_denoised", True):
            denoise = with_clean(denoise, lambda z_0: z_0.clamp(-1, 1))
        log = Log(discrete(model).T, int(params.get("log_every_t", 100)), [z_T], [z_T])
        masked = _mask_after(case, tag, model) if f"{tag}_qnoise" in case.inputs else None
        hooks = Hooks(after=lambda z_s, z_0, t, m=masked, log=log: log.after(z_s if m is None else m(z_s, z_0, t), z_0, t))  # type: ignore[misc]
        times, v = uniform(discrete(model).T, discrete(model).T), float(params.get("v_posterior", 0.0))
        z = ddpm(denoise, z_T, model.process, times, noise=lambda _, n=noises: next(n), hooks=hooks, v=v)  # type: ignore[misc]
        name = tag if tag.startswith("ddpm") else f"{tag}_ddpm"
        got |= {name: z, f"{name}_intermediates": torch.stack(log.z)}
    return got


def _mask_after(case: Case, tag: str, model: LatentDiffusion):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """Known places are put back after each step, noised to the time that the step came from."""
    noises = _noises(case.inputs[f"{tag}_qnoise"])

    def after(z: Tensor, z_0: Tensor, t: float) -> Tensor:
        known = model.process.add_noise(case.inputs["x0"], t, next(noises))
        return known * case.inputs["mask"] + (1.0 - case.inputs["mask"]) * z

    return after


def _progressive(case: Case, model: LatentDiffusion) -> dict[str, Tensor]:
    """The chain from an earlier time on, its noise cooled; the log holds predicted clean latents."""
    said = {key: re.search(rf"{key}[ =:]*([\d.]+)", case.what) for key in ("temperature", "start_T")}
    noise = case.inputs["prog_noise"]
    start = int(said["start_T"][1]) if said["start_T"] else len(noise)
    temperature = float(said["temperature"][1].rstrip(".")) if said["temperature"] else 1.0
    noises = _noises(noise, temperature)
    log = Log(start, int(case.params["ddpm"].get("log_every_t", 100)))
    times = [*range(start - 1, -1, -1), -1]
    denoise, v = _denoiser(case, model, 1.0), float(case.params["ddpm"].get("v_posterior", 0.0))
    hooks = Hooks(after=log.after)
    z = ddpm(denoise, case.inputs["x_T"], model.process, times, noise=lambda _: next(noises), hooks=hooks, v=v)
    return {"prog_temperature_startT": z, "prog_x0_partials": torch.stack(log.z_0)}
