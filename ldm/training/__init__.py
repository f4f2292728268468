"""Training with Lightning: the two stages, their data, optimizers and callbacks. Lightning is used only here."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
PLACES = {
    "AutoencoderTraining": "stage1",
    "ClassifierTraining": "classifier",
    "DataModule": "datamodule",
    "DiffusionTraining": "stage2",
    "Muon": "optim.muon",
    "TrainerSettings": "settings",
    "cycles": "optim.lr",
    "warmup_cosine": "optim.lr",
    "warmup_linear": "optim.lr",
}


def __getattr__(name: str) -> Any:
    """Lazy imports: averages and optimizers work without Lightning, which takes seconds to import."""
    if name in PLACES:
        return getattr(import_module(f"ldm.training.{PLACES[name]}"), name)
    raise AttributeError(f"module 'ldm.training' has no attribute {name!r}")
