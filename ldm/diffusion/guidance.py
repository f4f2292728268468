"""Functions from a denoiser to a denoiser: guidance."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm.diffusion.parameterization import Prediction
from ldm.diffusion.process import Process
from ldm.ranges import finite, integer, number, share

Denoise = Callable[[Tensor, float], Prediction]  # (z_t, t), conditioning already inside


@dataclass(frozen=True)
class Guidance:
    """How much classifier-free guidance, and when.

    Attributes:
        scale: 1 is the conditional model itself; larger values follow the condition more closely.
        interval: guide only where low <= `Process.fraction(t)` <= high, t / T for discrete timesteps (Kynkaanniemi et al., 2024);
            elsewhere only the conditional model is evaluated, at half the cost.
        rescale: share of the guided clean latent that is scaled back to the standard deviation of the conditional one
            (Lin et al., 2024, Sec. 3.4), which undoes the contrast that large scales add; 0 to 1.
        channels: guide only the first of the latent's channels; None guides all. The code of DiT, SiT and LightningDiT guides 3, and
            the guidance scales that they publish assume this.

    Raises:
        ValueError: an interval that is not 0 <= low < high <= 1, a share outside [0, 1], or a number of channels below 1.
    """

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0
    channels: int | None = None

    def __post_init__(self) -> None:
        number(scale=self.scale)
        integer(**{"guidance channels": self.channels})
        share(**{"guidance rescale": self.rescale})
        if len(self.interval) != 2 or not all(map(finite, self.interval)) or not 0.0 <= self.interval[0] < self.interval[1] <= 1.0:
            raise ValueError(f"the guidance interval must be 0 <= low < high <= 1, got {tuple(self.interval)}")

    def at(self, t: float, process: Process) -> bool:
        """Whether time t is guided."""
        return self.interval[0] <= process.fraction(t) <= self.interval[1]


def classifier_free(denoise_both: Denoise, conditional: Denoise, guidance: Guidance, process: Process) -> Denoise:
    """eps_null + scale (eps_cond - eps_null) (Ho and Salimans, 2022), in one batched call.

    Args:
        denoise_both: denoiser of 2B latents: the first B under the condition, the last B under the null condition.
        conditional: denoiser of B latents under the condition, for times that are not guided.
        guidance: scale, interval, rescaling.
        process: the model's.
    """

    def both(z_t: Tensor, t: float) -> tuple[Prediction, Prediction]:
        halves = [view.chunk(2) for view in denoise_both(torch.cat([z_t, z_t]), t)]
        return Prediction(*(half[0] for half in halves)), Prediction(*(half[1] for half in halves))

    return _guided(both, conditional, guidance, process)


def autoguidance(conditional: Denoise, worse: Denoise, guidance: Guidance, process: Process) -> Denoise:
    """eps_worse + scale (eps - eps_worse) (Karras et al., 2024): away from a smaller or earlier model under the same condition."""
    return _guided(lambda z_t, t: (conditional(z_t, t), worse(z_t, t)), conditional, guidance, process)


def _guided(
    both: Callable[[Tensor, float], tuple[Prediction, Prediction]], conditional: Denoise, guidance: Guidance, process: Process
) -> Denoise:
    """Extrapolate from the second of two predictions through the first, at the times that are guided."""

    def denoise(z_t: Tensor, t: float) -> Prediction:
        if not guidance.at(t, process):
            return conditional(z_t, t)
        positive, negative = both(z_t, t)
        eps, z_0 = (n + guidance.scale * (p - n) for p, n in zip(positive, negative, strict=True))
        if (c := guidance.channels) is not None:
            eps, z_0 = (torch.cat([g[:, :c], p[:, c:]], dim=1) for g, p in zip((eps, z_0), positive, strict=True))
        if guidance.rescale == 0.0:
            return Prediction(eps, z_0)
        dims = tuple(range(1, z_0.ndim))
        ratio = positive.z_0.std(dims, keepdim=True) / z_0.std(dims, keepdim=True).clamp(min=1e-8)
        z_0 = z_0 * (1.0 + guidance.rescale * (ratio - 1.0))
        at = process.at(t, z_t)
        return Prediction((z_t - at.alpha * z_0) / at.sigma, z_0)

    return denoise


def classifier_guided(denoise: Denoise, log_p: Callable[[Tensor, Tensor], Tensor], scale: float, process: Process) -> Denoise:
    """eps - scale sigma_t grad log p(y | z_t) (Dhariwal and Nichol, 2021, Algorithm 2; LDM-8-G of Tab. 10, scale 10).

    Args:
        denoise: denoiser to guide.
        log_p: (z_t, t) -> log p(y | z_t), `(B,)`, differentiable.
        scale: 1 samples from p(z | y) if the classifier is exact; larger values follow it more closely.
        process: the model's.
    """

    def guided(z_t: Tensor, t: float) -> Prediction:
        with torch.enable_grad():
            z = z_t.detach().requires_grad_()
            (score,) = torch.autograd.grad(log_p(z, process.time(t, z)).sum(), z)
        return shifted(denoise(z_t, t), scale * score, z_t, t, process)

    return guided


def shifted(prediction: Prediction, score: Tensor, z_t: Tensor, t: float, process: Process) -> Prediction:
    """Add a score `(B, C, h, w)` to the score -eps / sigma_t of a prediction.

    Where alpha_t is 0, z_t carries no information about z_0 or y, and the prediction is returned unchanged.
    """
    if process.pure_noise and t == process.first:
        return prediction
    at = process.at(t, z_t)
    eps, z_0 = prediction
    return Prediction(eps - at.sigma * score, z_0 + at.sigma**2 / at.alpha * score)
