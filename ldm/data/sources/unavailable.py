"""Placeholder for data of a config that is not available: never released, or not specified."""

from torch.utils.data import Dataset

from ldm.data.batch import Sample
from ldm.data.transforms import Size
from ldm.errors import MissingFile


class Unavailable(Dataset[Sample]):
    """Placeholder for unavailable data; building it raises an error that says what is missing.

    Args:
        reason: what is missing, and what to do.
        size: of the images that it would have.

    Raises:
        MissingFile: always.
    """

    def __init__(self, reason: str, size: Size = 256) -> None:
        raise MissingFile(reason)
