"""Diffusion processes: the distribution of z_t at every t."""

from ldm.diffusion.process.base import ContinuousProcess, Gaussian, Level, Process, Spacing
from ldm.diffusion.process.discrete import DiscreteProcess, cosine, from_betas, linear, normal_kl, scaled_linear, sqrt
from ldm.diffusion.process.edm import EDM, VarianceExploding
from ldm.diffusion.process.flow import RectifiedFlow, Trigonometric, VariancePreserving
from ldm.diffusion.process.times import LogitNormal, LogNormal, LogUniform, Shifted, TimeDistribution, Uniform

__all__ = [
    "EDM",
    "ContinuousProcess",
    "DiscreteProcess",
    "Gaussian",
    "Level",
    "LogNormal",
    "LogUniform",
    "LogitNormal",
    "Process",
    "RectifiedFlow",
    "Shifted",
    "Spacing",
    "TimeDistribution",
    "Trigonometric",
    "Uniform",
    "VarianceExploding",
    "VariancePreserving",
    "cosine",
    "from_betas",
    "linear",
    "normal_kl",
    "scaled_linear",
    "sqrt",
]
