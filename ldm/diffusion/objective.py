"""The training objective L_LDM (Eq. 1-3): a regression on noised latents, and its weightings."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.diffusion import weighting
from ldm.diffusion.parameterization import Parameterization
from ldm.diffusion.process import DiscreteProcess, Process
from ldm.ranges import integer, number, positive

SHORT = 1e-2  # least length of vectors in the cosine: its gradient grows as 1 / length, and many networks output 0 at the start
Predict = Callable[[Tensor, Tensor], Tensor]  # (z_t, t) -> output, conditioning closed over


class DiffusionObjective(nn.Module):
    """simple_weight * mean(w_t e / exp(s_t) + s_t) + vlb_weight * mean(v_t e), where e is the mean error of a sample.

    Args:
        loss: "l2" as in the paper; "l1" as in several released configs (Churches, layout, inpainting, semantic maps).
        simple_weight: of the first term.
        vlb_weight: of the second, the variational bound's own weighting v_t; 0 in the paper.
        vlb: "exact", or "original", whose v_t for x0 prediction has a misplaced parenthesis.
        min_snr: gamma of min-SNR weighting (see `weighting`).
        weight: w_t, one of the functions of `weighting` or your own; None means w_t = 1.
        cosine_weight: of 1 - cosine between output and target along the channels, added to the error of a sample (LightningDiT).
        log_variances: number of timesteps T of a discrete process, each of which gets a learned log variance s_t; None means s_t = 0.
        initial_log_variance: initial value of s_t.

    Raises:
        ValueError: negative weights, a gamma that is not positive, or both `min_snr` and `weight`.
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
        weight: weighting.Weighting | None = None,
        cosine_weight: float = 0.0,
    ) -> None:
        super().__init__()
        number(0, simple_weight=simple_weight, vlb_weight=vlb_weight, cosine_weight=cosine_weight)
        if simple_weight == vlb_weight == 0:
            raise ValueError("simple_weight and vlb_weight are both 0: nothing would be learned")
        positive(min_snr=min_snr)
        if min_snr is not None and weight is not None:
            raise ValueError("min_snr and weight are two weightings: set one of them")
        integer(log_variances=log_variances)
        number(-30, 30, initial_log_variance=initial_log_variance)
        self.loss, self.simple_weight, self.vlb_weight, self.vlb = loss, simple_weight, vlb_weight, vlb
        self.weight = weighting.min_snr(min_snr) if min_snr is not None else weight
        self.cosine_weight = cosine_weight
        initial = None if log_variances is None else torch.full((log_variances,), float(initial_log_variance))
        self.log_variance = None if initial is None else nn.Parameter(initial)

    def require(self, process: Process, parameterization: Parameterization) -> None:
        """Check that all terms of the loss are defined for a process.

        Raises:
            ValueError: one is not.
        """
        tables = self.log_variance is not None or self.vlb_weight
        if tables and not isinstance(process, DiscreteProcess):
            raise ValueError(f"log_variances and vlb_weight need discrete timesteps, unlike {type(process).__name__}")
        if self.log_variance is not None and isinstance(process, DiscreteProcess) and len(self.log_variance) != process.T:
            raise ValueError(f"objective.log_variances is {len(self.log_variance)}, but the process has {process.T} timesteps")
        if self.weight is not None:
            self.weight(process.at(process.first, torch.zeros(1, 1)), parameterization)

    def errors(self, network: Predict, z_0: Tensor, t: Tensor, eps: Tensor, process: Process, parameterization: Parameterization) -> Tensor:
        """Unweighted error per sample, `(B,)` float32, for clean latents z_0 and noise eps `(B, C, h, w)` at times t `(B,)`."""
        target = parameterization.target(z_0, eps, process.at(t, z_0)).float()
        output = network(process.add_noise(z_0, t, eps), t).float()
        error = output - target
        error = error.abs() if self.loss == "l1" else torch.square(error)
        errors = error.flatten(1).mean(dim=1)
        if self.cosine_weight:
            cosine = F.cosine_similarity(output, target, dim=1, eps=SHORT)
            errors = errors + self.cosine_weight * (1.0 - cosine).flatten(1).mean(dim=1)
        return errors

    def forward(self, errors: Tensor, t: Tensor, process: Process, parameterization: Parameterization) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss for errors `(B,)` at times t `(B,)`, and scalars to log."""
        logs = {"loss_simple": errors.detach().mean()}
        weighted = errors if self.weight is None else errors * self._weights(self.weight, t, process, parameterization)
        if self.log_variance is not None:
            s_t = self.log_variance[t]
            weighted = weighted / s_t.exp() + s_t
            logs["log_variance"] = self.log_variance.detach().mean()
        loss = self.simple_weight * weighted.mean()
        if self.vlb_weight:
            assert isinstance(process, DiscreteProcess)
            bound = (weighting.vlb_weights(process, parameterization, self.vlb).to(errors)[t] * errors).mean()
            loss = loss + self.vlb_weight * bound
            logs["loss_vlb"] = bound.detach()
        return loss, {"loss": loss.detach(), **logs}

    def _weights(self, weight: weighting.Weighting, t: Tensor, process: Process, parameterization: Parameterization) -> Tensor:
        if isinstance(process, DiscreteProcess):
            return weight(process.exact(), parameterization).to(t.device, torch.float32)[t]
        return weight(process.at(t, t.new_zeros(len(t), 1)), parameterization)[:, 0]
