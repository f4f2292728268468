"""The one way in which loader processes start."""

from typing import Any

from torch.utils.data import DataLoader, Dataset

from ldm.system.signals import leave_to_parent, unheard


class Loader(DataLoader[Any]):
    """A DataLoader whose workers do not hear what asks the command to stop: they are needed for the step in hand, and end with it."""

    def __init__(self, dataset: Dataset[Any], **options: Any) -> None:
        super().__init__(dataset, worker_init_fn=leave_to_parent, **options)

    def __iter__(self) -> Any:
        with unheard():
            iterator = super().__iter__()
        for worker in getattr(iterator, "_workers", ()):
            worker.terminate = worker.kill  # how torch ends one that hangs, after a while; it would not hear SIGTERM
        return iterator
