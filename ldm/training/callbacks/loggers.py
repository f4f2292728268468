"""Loggers that cannot end a run: a failure is reported once, and training continues without that logger."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger

from ldm.training.callbacks.incidents import Incidents

CALLED = ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "after_save_checkpoint")


class TensorBoard(TensorBoardLogger):
    """TensorBoard in a run folder of any name: Lightning expands environment variables (`$HOME`) in its path."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="")

    @property
    def log_dir(self) -> str:
        return self.save_dir


def tolerant(loggers: Iterable[Logger], incidents: Incidents) -> list[Logger]:
    """The loggers that can start; one that fails later is no longer called."""
    found = []
    for logger in loggers:
        with reporting_threads(incidents), incidents.tolerated(type(logger).__name__):
            getattr(logger, "experiment", None)  # opens its files
            _guard(logger, incidents)
            found.append(logger)
    return found


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
