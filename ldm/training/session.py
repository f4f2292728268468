"""`sessions.jsonl` of a run: where and how it was trained, one line for each start and resume."""

import json
import time
from pathlib import Path

import torch

from ldm import __version__
from ldm.system.device import device_name
from ldm.system.files import append_line
from ldm.training.module import TrainingModule
from ldm.training.settings import TrainerSettings


def sizes(module: TrainingModule) -> dict[str, int]:
    """Number of parameters of each part that has some."""
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in module.parts().items()}
    return {name: count for name, count in counts.items() if count}


def record_session(folder: Path, module: TrainingModule, settings: TrainerSettings, price: float | None) -> None:
    """Append a line."""
    session = {
        "step": module.step,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "device": device_name(torch.device(settings.device_type())),
        "devices": settings.world_size(),
        "precision": settings.precision,
        "parameters": sizes(module),
        "trained_parameters": sum(p.numel() for group in module.groups() for _, p in group),
        "ema_decay": None if module.ema is None else module.ema.decay,
        "price_per_hour": price,
        "torch": torch.__version__,
        "ldm": __version__,
    }
    append_line(folder / "sessions.jsonl", json.dumps(session))
