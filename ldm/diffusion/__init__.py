"""The mathematics of diffusion in a latent space; imports nothing but torch."""

from ldm.diffusion.guidance import Guidance, autoguidance, classifier_free, classifier_guided
from ldm.diffusion.image_guidance import image_guided
from ldm.diffusion.objective import DiffusionObjective
from ldm.diffusion.parameterization import PARAMETERIZATIONS, Parameterization, Prediction
from ldm.diffusion.process import (
    EDM,
    DiscreteProcess,
    Process,
    RectifiedFlow,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
    cosine,
    from_betas,
    linear,
    normal_kl,
    scaled_linear,
    sqrt,
)
from ldm.diffusion.progressive import Received, code_times, progressive
from ldm.diffusion.tiling import Tiles

__all__ = [
    "EDM",
    "PARAMETERIZATIONS",
    "DiffusionObjective",
    "DiscreteProcess",
    "Guidance",
    "Parameterization",
    "Prediction",
    "Process",
    "Received",
    "RectifiedFlow",
    "Trigonometric",
    "VarianceExploding",
    "VariancePreserving",
    "Tiles",
    "autoguidance",
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
