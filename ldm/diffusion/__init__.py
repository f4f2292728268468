"""The mathematics of diffusion in a latent space; imports nothing but torch."""

from ldm.diffusion.guidance import Guidance, classifier_free, classifier_guided
from ldm.diffusion.guiding import image_guided
from ldm.diffusion.objective import DiffusionObjective
from ldm.diffusion.parameterization import PARAMETERIZATIONS, Parameterization, Prediction
from ldm.diffusion.schedule import NoiseSchedule, cosine, from_betas, linear, normal_kl, scaled_linear, sqrt
from ldm.diffusion.windows import Windows

__all__ = [
    "PARAMETERIZATIONS",
    "DiffusionObjective",
    "Guidance",
    "NoiseSchedule",
    "Parameterization",
    "Prediction",
    "Windows",
    "classifier_free",
    "classifier_guided",
    "cosine",
    "from_betas",
    "image_guided",
    "linear",
    "normal_kl",
    "scaled_linear",
    "sqrt",
]
