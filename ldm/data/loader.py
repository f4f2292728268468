"""Data loader whose workers ignore signals."""

from typing import Any

from torch.utils.data import DataLoader, Dataset

from ldm.system.signals import leave_to_parent, unheard


class Loader(DataLoader[Any]):
    """A DataLoader whose workers ignore requests to stop: they are needed for the current step, and end after it."""

    def __init__(self, dataset: Dataset[Any], **options: Any) -> None:
        super().__init__(dataset, worker_init_fn=leave_to_parent, **options)

    def __iter__(self) -> Any:
        with unheard():
            iterator = super().__iter__()
        for worker in getattr(iterator, "_workers", ()):
            worker.terminate = worker.kill  # torch terminates hanging workers, which would ignore SIGTERM
        return iterator
