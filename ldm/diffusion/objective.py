"""The training objective L_LDM (Eq. 1-3): a regression on noised latents."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from ldm.diffusion.parameterization import Parameterization
from ldm.diffusion.schedule import NoiseSchedule

Network = Callable[[Tensor, Tensor], Tensor]  # (z_t, t) -> output, conditioning closed over


class DiffusionObjective(nn.Module):
    """Mean error of the network's output against its target.

    Args:
        loss: "l2" as in the paper; "l1" as in several released configs (Churches, layout, inpainting, semantic maps).
    """

    def __init__(self, loss: Literal["l1", "l2"] = "l2") -> None:
        super().__init__()
        self.loss = loss

    def forward(
        self, network: Network, z_0: Tensor, t: Tensor, eps: Tensor, schedule: NoiseSchedule, parameterization: Parameterization
    ) -> Tensor:
        """Error per sample, `(B,)` float32, for clean latents z_0 and noise eps `(B, C, h, w)` at times t `(B,)`."""
        z_t = schedule.add_noise(z_0, t, eps)
        target = parameterization.target(z_0, eps, schedule.alpha(t, z_0), schedule.sigma(t, z_0))
        error = network(z_t, t).float() - target.float()
        error = error.abs() if self.loss == "l1" else torch.square(error)
        return error.flatten(1).mean(dim=1)
