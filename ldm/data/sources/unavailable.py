"""Data that a config names and nobody can open: never released, or not said."""

from torch.utils.data import Dataset

from ldm.data.batch import Sample
from ldm.errors import MissingFile


class Unavailable(Dataset[Sample]):
    """Stands where data should; building it says what is missing.

    Args:
        reason: what is missing, and what to do.
        size: side of the images that it would give.

    Raises:
        MissingFile: always.
    """

    def __init__(self, reason: str, size: int = 256) -> None:
        raise MissingFile(reason)
