"""Loggers: their files and names in a run, its config and pictures in each, and no failure of one ends training."""

import importlib
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from pytorch_lightning.loggers import Logger, TensorBoardLogger

from ldm.config import AllowedTargets
from ldm.training.callbacks.incidents import Incidents

CALLED = ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "after_save_checkpoint")
FOLDERS = ("save_dir", "root_dir")  # arguments for the folder of a logger's files; the working directory by default
NAMES = {"WandbLogger": ("name", "id"), "MLFlowLogger": ("run_name",), "CometLogger": ("name",), "LitLogger": ("name",)}


class TensorBoard(TensorBoardLogger):
    """TensorBoard in a run folder of any name: Lightning expands environment variables (`$HOME`) in its path."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="")

    @property
    def log_dir(self) -> str:
        return self.save_dir


def folder_arguments(target: Any) -> list[str]:
    """Arguments of a logger's class for the folder of its files."""
    found = [key for key in FOLDERS if key in inspect.signature(target).parameters]
    return [*found, *(["offline_directory"] if getattr(target, "__name__", "") == "CometLogger" else [])]


def in_run(nodes: dict[str, Any], folder: Path, trust: AllowedTargets) -> dict[str, Any]:
    """The `loggers:` of a config, where its values are not given: files in `RUN/loggers/<name>`, and the name of the run folder.

    Weights & Biases also gets it as the ID of the run, so that a resumed run continues its curves. MLflow uses its own default store,
    because it compares the runs of one store.
    """
    found = {}
    for name, node in nodes.items():
        target = trust.resolve(str(node["target"]))
        kind = getattr(target, "__name__", "")
        given = dict.fromkeys(folder_arguments(target), str(folder / "loggers" / name)) | dict.fromkeys(NAMES.get(kind, ()), folder.name)
        if kind == "MLFlowLogger":
            given["tracking_uri"] = importlib.import_module("mlflow").get_tracking_uri()  # of MLFLOW_TRACKING_URI, or a local one
        found[name] = {**node, "params": given | (node.get("params") or {})}
    return found


def tolerant(loggers: Iterable[Logger], incidents: Incidents, config: dict[str, Any], step: int = 0) -> list[Logger]:
    """The loggers that can start, which get the resolved config; one that fails later is no longer called."""
    found = []
    for logger in loggers:
        with reporting_threads(incidents), incidents.tolerated(type(logger).__name__):
            getattr(logger, "experiment", None)  # opens its files
            with incidents.tolerated(f"{type(logger).__name__}, config"):
                log_config(logger, config, step)
            _guard(logger, incidents)
            found.append(logger)
    return found


def log_config(logger: Any, config: dict[str, Any], step: int) -> None:
    """Log the resolved config: as text, and as hyperparameters for those loggers that compare runs by them."""
    experiment: Any = getattr(logger, "experiment", None)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    if hasattr(experiment, "add_text"):  # TensorBoard, which shows Markdown
        experiment.add_text("config", f"```yaml\n{text}```", step)
        return
    if hasattr(experiment, "log_text") and hasattr(logger, "run_id"):  # MLflow
        experiment.log_text(logger.run_id, text, "config.yaml")
    logger.log_hyperparams(config)


def log_image(logger: Any, name: str, picture: Image.Image, step: int) -> None:
    """Log a picture with a logger of Lightning, if it supports images: each has its own method."""
    experiment: Any = getattr(logger, "experiment", None)
    if hasattr(logger, "log_image"):  # Weights & Biases
        logger.log_image(key=name, images=[picture], step=step)
    elif hasattr(experiment, "add_image"):  # TensorBoard
        experiment.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
    elif hasattr(experiment, "log_image") and hasattr(logger, "run_id"):  # MLflow
        experiment.log_image(logger.run_id, picture, f"{name}/step-{step:06d}.png")
    elif hasattr(experiment, "log_image"):  # Comet
        experiment.log_image(picture, name=name, step=step)


def _guard(logger: Logger, incidents: Incidents) -> None:
    failed: list[BaseException] = []

    def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if failed:
                return None
            try:
                return method(*args, **kwargs)
            except Exception as error:
                failed.append(error)
                incidents.failure(type(logger).__name__, error)

        return call

    for name in CALLED:
        setattr(logger, name, guarded(getattr(logger, name)))


@contextmanager
def reporting_threads(incidents: Incidents) -> Iterator[None]:
    """Context in which errors in background threads, such as TensorBoard's writer, are reported without a stack trace."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            incidents.failure(args.thread.name if args.thread is not None else "a thread", args.exc_value)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
