"""Training with Lightning, which is used only here: the two stages, their data, optimizers and callbacks."""

from ldm.training.classifier import ClassifierTraining
from ldm.training.datamodule import DataModule
from ldm.training.optim.lr import cycles, warmup_cosine, warmup_linear
from ldm.training.optim.muon import Muon
from ldm.training.settings import TrainerSettings
from ldm.training.stage1 import AutoencoderTraining
from ldm.training.stage2 import DiffusionTraining

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
