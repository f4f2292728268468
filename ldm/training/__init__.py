"""Training with Lightning: the two stages, their data, optimizers and records. Lightning lives here only."""

from ldm.training.autoencoder import AutoencoderTraining
from ldm.training.classifier import ClassifierTraining
from ldm.training.datamodule import DataModule
from ldm.training.diffusion import DiffusionTraining
from ldm.training.lr import cycles, warmup_cosine, warmup_linear
from ldm.training.muon import Muon
from ldm.training.settings import TrainerSettings

__all__ = [
    "AutoencoderTraining",
    "ClassifierTraining",
    "DataModule",
    "DiffusionTraining",
    "Muon",
    "TrainerSettings",
    "cycles",
    "warmup_cosine",
    "warmup_linear",
]
