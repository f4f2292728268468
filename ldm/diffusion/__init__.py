"""The mathematics of diffusion in a latent space; imports nothing but torch."""

from ldm.diffusion.guidance import Guidance, classifier_free, classifier_guided
from ldm.diffusion.guiding import image_guided
from ldm.diffusion.objective import DiffusionObjective
from ldm.diffusion.parameterization import PARAMETERIZATIONS, Parameterization, Prediction
from ldm.diffusion.progressive import Received, code_times, progressive
from ldm.diffusion.schedule import NoiseSchedule, cosine, from_betas, linear, normal_kl, scaled_linear, sqrt
from ldm.diffusion.windows import Windows

__all__ = [
    "PARAMETERIZATIONS",
    "DiffusionObjective",
    "Guidance",
    "NoiseSchedule",
    "Parameterization",
    "Prediction",
    "Received",
    "Windows",
    "classifier_free",
    "classifier_guided",
    "code_times",
    "cosine",
    "from_betas",
    "image_guided",
    "linear",
    "normal_kl",
    "progressive",
    "scaled_linear",
    "sqrt",
]
