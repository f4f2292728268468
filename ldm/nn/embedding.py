"""Sinusoidal embedding of the timestep."""

import math

import torch
from torch import Tensor


def timestep_embedding(t: Tensor, width: int, max_period: float = 10000.0) -> Tensor:
    """[cos | sin] features of t at geometrically spaced frequencies.

    Args:
        t: `(B,)`, integer or fractional timesteps.
        width: number of features; an odd width is padded with one zero.
        max_period: period of the slowest feature, in steps.

    Returns:
        `(B, width)` float32.
    """
    half = width // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = t.float()[:, None] * frequencies
    embedding = torch.cat([angles.cos(), angles.sin()], dim=1)
    return torch.nn.functional.pad(embedding, (0, width % 2))
