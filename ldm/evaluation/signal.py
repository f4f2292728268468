"""Signal and noise of a latent space (appendix D.1): when, in the reverse process, does an image's content appear?"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.diffusion.process import DiscreteProcess, Process


def coarse_variance(z: Tensor, block: int) -> float:
    """Variance of the content of latents `(B, c, h, w)` at the scale of `block` cells, in units of the noise at that scale.

    Averaging over block x block cells divides the variance of white noise by block^2, and that of coarse content hardly at
    all: so the larger the image, the earlier its layout stands out of the noise. A block of 1 gives Var(z).
    """
    coarse = F.avg_pool2d(z.float(), block) if block > 1 else z.float()
    return float(coarse.var()) * block**2


def share_before(process: Process, variance: float) -> float:
    """Share of the reverse process, counted from pure noise, that is over when the signal alpha_t^2 Var(z) begins to outweigh the noise.

    0: content is visible from the first step on; 1: it never is.
    """
    steps = process.T if isinstance(process, DiscreteProcess) else 1000
    levels = (process.at(t, torch.zeros(1, 1)) for t in process.spacings()["uniform"](steps)[:-1])
    return sum(float(level.alpha**2 * variance) < float(level.sigma**2) for level in levels) / steps
