"""The mathematics of diffusion in a latent space; imports nothing but torch."""

from ldm.diffusion.guidance import Guidance, classifier_free
from ldm.diffusion.objective import DiffusionObjective
from ldm.diffusion.parameterization import PARAMETERIZATIONS, Parameterization, Prediction
from ldm.diffusion.schedule import NoiseSchedule, cosine, from_betas, linear, normal_kl, scaled_linear, sqrt

__all__ = [
    "PARAMETERIZATIONS",
    "DiffusionObjective",
    "Guidance",
    "NoiseSchedule",
    "Parameterization",
    "Prediction",
    "classifier_free",
    "cosine",
    "from_betas",
    "linear",
    "normal_kl",
    "scaled_linear",
    "sqrt",
]
