"""The mathematics of diffusion in a latent space; imports nothing but torch."""

from ldm.diffusion.guidance import classifier_free
from ldm.diffusion.objective import DiffusionObjective
from ldm.diffusion.parameterization import PARAMETERIZATIONS, Parameterization, Prediction
from ldm.diffusion.schedule import NoiseSchedule, cosine, linear, scaled_linear

__all__ = [
    "PARAMETERIZATIONS",
    "DiffusionObjective",
    "NoiseSchedule",
    "Parameterization",
    "Prediction",
    "classifier_free",
    "cosine",
    "linear",
    "scaled_linear",
]
