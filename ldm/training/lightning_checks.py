"""Validate what a config adds to Lightning's trainer (callbacks, loggers, a strategy, options) before a run is created."""

import inspect
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment

from ldm.config import AllowedTargets
from ldm.training.settings import TrainerSettings

INSTEAD = {  # Lightning's callbacks that have no effect here, or stop the run -> what to use instead
    "ModelCheckpoint": "trainer.params.checkpoint_every and keep",
    "EarlyStopping": "trainer.params.max_seconds",
    "GradientAccumulationScheduler": "data.params.max_per_device",
    "StochasticWeightAveraging": "model.params.ema_decay",
    "WeightAveraging": "model.params.ema_decay",
    "BatchSizeFinder": "data.params.max_per_device",
    "LearningRateFinder": "model.params.optimizer.params.lr",
    "BaseFinetuning": "model.params.train_conditioner",
    "ModelPruning": "nothing",
    "ProgressBar": "nothing: there is one",
}

PACKAGES = {"CometLogger": "comet_ml", "LitLogger": "litlogger", "MLFlowLogger": "mlflow", "WandbLogger": "wandb"}  # of the loggers
SERVERS = ("CometLogger", "LitLogger", "MLFlowLogger")  # whose constructors already contact a server, or create folders


def callback_problems(config: dict[str, Any], trust: AllowedTargets) -> Iterator[str]:
    """Problems of the `callbacks:` and `loggers:` of a config."""
    for key, base in (("callbacks", pl.Callback), ("loggers", Logger)):
        nodes = config.get(key)
        for name, node in nodes.items() if isinstance(nodes, dict) else ():
            try:
                target = trust.resolve(str(node["target"])) if isinstance(node, dict) and "target" in node else None
            except ValueError:
                continue  # reported with the other nodes
            if not (inspect.isclass(target) and issubclass(target, base)) or node.get("partial"):
                yield f"{key}.{name}: expected a node that builds a {base.__name__}"
                continue
            for kind in target.__mro__:
                if kind.__module__.startswith("pytorch_lightning.") and kind.__name__ in INSTEAD:
                    yield (
                        f"{key}.{name}: {target.__name__} does not work here, because this project counts steps and saves checkpoints "
                        f"itself; use {INSTEAD[kind.__name__]}"
                    )
                    break
                if (package := PACKAGES.get(kind.__name__)) and find_spec(package) is None:
                    yield f"{key}.{name}: {target.__name__} needs the package {package}: pip install {package}"


def without_servers(loggers: dict[str, Any], trust: AllowedTargets) -> dict[str, Any]:
    """The loggers of a config whose constructors have no side effects."""
    return {name: node for name, node in loggers.items() if getattr(trust.resolve(str(node["target"])), "__name__", "") not in SERVERS}


def build_trainer(settings: TrainerSettings, callbacks: list[pl.Callback]) -> None:
    """Let Lightning validate a strategy, its options and callbacks, on the CPU and without starting anything.

    Raises:
        Exception: an error of Lightning.
    """
    given: dict[str, Any] = {"plugins": [LightningEnvironment()], **settings.lightning}
    pl.Trainer(
        accelerator="cpu",
        devices=1,
        strategy=settings.strategy,
        callbacks=callbacks,
        logger=False,
        default_root_dir=Path.cwd(),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **given,
    )
