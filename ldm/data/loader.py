"""Data loader whose workers ignore signals."""

from typing import Any

from torch.utils.data import DataLoader, Dataset

from ldm.system.signals import ignore_stop_signals, signals_blocked


class Loader(DataLoader[Any]):
    """A DataLoader whose workers ignore requests to stop: they are needed for the current step, and end after it."""

    def __init__(self, dataset: Dataset[Any], **options: Any) -> None:
        super().__init__(dataset, worker_init_fn=ignore_stop_signals, **options)

    def __iter__(self) -> Any:
        with signals_blocked():
            iterator = super().__iter__()
        for worker in getattr(iterator, "_workers", ()):
            worker.terminate = worker.kill  # torch terminates hanging workers, which would ignore SIGTERM
        return iterator
