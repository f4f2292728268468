"""A diffusion process: alpha = 1 - t^2, sigma = t."""

import torch
from torch import Tensor

from ldm.diffusion.process import ContinuousProcess, Level


class Parabola(ContinuousProcess):
    def path(self, t: Tensor) -> Level:
        return Level(alpha=1.0 - t**2, sigma=t, d_alpha=-2.0 * t, d_sigma=torch.ones_like(t))
