"""Training with Lightning: the two stages, their data, optimizers and records. Lightning lives here only."""

from ldm.training.autoencoder import AutoencoderTraining
from ldm.training.datamodule import DataModule
from ldm.training.diffusion import DiffusionTraining
from ldm.training.lr import warmup_cosine, warmup_linear
from ldm.training.muon import Muon
from ldm.training.settings import TrainerSettings

__all__ = ["AutoencoderTraining", "DataModule", "DiffusionTraining", "Muon", "TrainerSettings", "warmup_cosine", "warmup_linear"]
