"""The training objective L_LDM (Eq. 1-3): a regression on noised latents, and its weightings."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from ldm.diffusion.parameterization import Parameterization
from ldm.diffusion.schedule import NoiseSchedule
from ldm.ranges import integer, number, positive

Network = Callable[[Tensor, Tensor], Tensor]  # (z_t, t) -> output, conditioning closed over


class DiffusionObjective(nn.Module):
    """simple_weight * mean(w_t e / exp(s_t) + s_t) + vlb_weight * mean(v_t e), with e the mean error of a sample.

    Args:
        loss: "l2" as in the paper; "l1" as in several released configs (Churches, layout, inpainting, semantic maps).
        simple_weight: of the first term.
        vlb_weight: of the second, the variational bound's own weighting v_t; 0 in the paper.
        vlb: "exact", or "original", whose v_t for x0 prediction has a misplaced parenthesis.
        min_snr: gamma of min-SNR weighting (Hang et al., 2023): w_t = min(SNR, gamma) on the clean latent's error; none
            is w_t = 1.
        log_variances: learn a log variance s_t for each of so many times (T); none is s_t = 0.
        initial_log_variance: where the s_t start.

    Raises:
        ValueError: negative weights, or a gamma that is not positive.
    """

    def __init__(
        self,
        loss: Literal["l1", "l2"] = "l2",
        simple_weight: float = 1.0,
        vlb_weight: float = 0.0,
        vlb: Literal["exact", "original"] = "exact",
        min_snr: float | None = None,
        log_variances: int | None = None,
        initial_log_variance: float = 0.0,
    ) -> None:
        super().__init__()
        number(0, simple_weight=simple_weight, vlb_weight=vlb_weight)
        if simple_weight == vlb_weight == 0:
            raise ValueError("simple_weight and vlb_weight are both 0: nothing would be learned")
        positive(min_snr=min_snr)
        integer(log_variances=log_variances)
        number(-30, 30, initial_log_variance=initial_log_variance)
        self.loss, self.simple_weight, self.vlb_weight, self.vlb, self.min_snr = loss, simple_weight, vlb_weight, vlb, min_snr
        initial = None if log_variances is None else torch.full((log_variances,), float(initial_log_variance))
        self.log_variance = None if initial is None else nn.Parameter(initial)

    def errors(
        self, network: Network, z_0: Tensor, t: Tensor, eps: Tensor, schedule: NoiseSchedule, parameterization: Parameterization
    ) -> Tensor:
        """Unweighted error per sample, `(B,)` float32, for clean latents z_0 and noise eps `(B, C, h, w)` at times t `(B,)`."""
        z_t = schedule.add_noise(z_0, t, eps)
        target = parameterization.target(z_0, eps, schedule.alpha(t, z_0), schedule.sigma(t, z_0))
        error = network(z_t, t).float() - target.float()
        error = error.abs() if self.loss == "l1" else torch.square(error)
        return error.flatten(1).mean(dim=1)

    def forward(
        self, errors: Tensor, t: Tensor, schedule: NoiseSchedule, parameterization: Parameterization
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss for errors `(B,)` at times t `(B,)`, and scalars to log."""
        logs = {"loss_simple": errors.detach().mean()}
        weighted = errors if self.min_snr is None else errors * self._min_snr_weight(t, schedule, parameterization)
        if self.log_variance is not None:
            s_t = self.log_variance[t]
            weighted = weighted / s_t.exp() + s_t
            logs["log_variance"] = self.log_variance.detach().mean()
        loss = self.simple_weight * weighted.mean()
        if self.vlb_weight:
            bound = (vlb_weights(schedule, parameterization, self.vlb).to(errors)[t] * errors).mean()
            loss = loss + self.vlb_weight * bound
            logs["loss_vlb"] = bound.detach()
        return loss, {"loss": loss.detach(), **logs}

    def _min_snr_weight(self, t: Tensor, schedule: NoiseSchedule, parameterization: Parameterization) -> Tensor:
        assert self.min_snr is not None
        squared = torch.cumprod(1.0 - schedule.betas, dim=0)  # float64: where little is left of z_0, float32 has no SNR
        weights = (squared / (1.0 - squared)).clamp(max=self.min_snr) * parameterization.to_z_0(squared.sqrt(), (1.0 - squared).sqrt())
        return weights.to(t.device, torch.float32)[t]


def vlb_weights(schedule: NoiseSchedule, parameterization: Parameterization, kind: Literal["exact", "original"] = "exact") -> Tensor:
    """v_t `(T,)`: half the step of the signal-to-noise ratio (SNR_s - SNR_t) / 2 with s = t - 1, per error of the output.

    The first weight, which would be infinite, is the second's, as in the original. "original" differs from "exact" for x0
    prediction only.
    """
    squared = torch.cumprod(1.0 - schedule.betas, dim=0)
    if kind == "original" and type(parameterization).__name__ == "X0":
        weights = 0.5 * squared.sqrt() / (2.0 - squared)
    else:
        snr = squared / (1.0 - squared)
        before = torch.cat([snr[:1], snr[:-1]])
        # to_z_0 is infinite where nothing of z_0 is left; that time has SNR_t = 0 and eps prediction does not go there.
        weights = 0.5 * (before - snr) * parameterization.to_z_0(squared.sqrt(), (1.0 - squared).sqrt())
    weights[0] = weights[1] if len(weights) > 1 else weights[0]
    return weights.float()
