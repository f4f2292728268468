"""What a data set knows of its samples without reading images: names and numbers of classes, and captions."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from ldm.data.annotated import Annotated

MOST_CAPTIONS = 1_000_000


def sources(dataset: Any) -> list[Any]:
    """The data sets that read files, below those that mix them or add masks or degradations (`parts`)."""
    parts = getattr(dataset, "parts", ())
    return [source for part in parts for source in sources(part)] if parts else [dataset]


class Facts:
    """Facts about a data set.

    Attributes:
        class_names: names of classes in the order of their indices, by key ("label", "boxes", "segmentation"); of several sets, the
            first's.
    """

    def __init__(self, dataset: Any) -> None:
        self.sources = sources(dataset)
        self.class_names: dict[str, list[str]] = {}
        for source in self.sources:
            for key, names in (getattr(source, "class_names", None) or {}).items():
                self.class_names.setdefault(key, list(names))

    def number_of_classes(self, key: str) -> int:
        """Number of classes of a key: of the names, or as given to the data set, or the highest index + 1.

        Raises:
            ValueError: the data set does not say it.
        """
        known = len(self.class_names.get(key, ()))
        for source in self.sources:
            known = known or getattr(source, "class_counts", {}).get(key, 0)
            if not known and key != "segmentation" and isinstance(source, Annotated):
                known = 1 + max(_indices(source, key), default=-1)
        if not known:
            raise ValueError(f'the data does not say how many classes of {key!r} there are: give their number instead of "data"')
        return int(known)

    def captions(self, most: int = MOST_CAPTIONS) -> Iterator[str]:
        """The captions of the first `most` samples of every source; of a set that does not list them, the samples are read."""
        for source in self.sources:
            if isinstance(source, Annotated):
                for index in range(min(len(source), most)):
                    yield from source.record(index).captions
            else:
                yield from (str(sample["caption"]) for sample in islice(source, min(len(source), most)) if "caption" in sample)


def _indices(source: Annotated, key: str) -> Iterator[int]:
    for index in range(len(source)):
        record = source.record(index)
        if key == "boxes":
            yield from record.box_labels.tolist()
        elif record.label is not None:
            yield record.label
