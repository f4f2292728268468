"""ImageNet as it is downloaded: a folder per synset."""

import re
from pathlib import Path
from typing import Literal

from ldm.data.annotated import Record
from ldm.data.folders import RecordList
from ldm.data.geometry import Crop
from ldm.data.images import SUFFIXES
from ldm.data.reading import files_below, first_of, read_text, require
from ldm.errors import UserError

FOLDERS = {
    "train": ("train", "ILSVRC2012_train/data", "ILSVRC2012_train", "ILSVRC/Data/CLS-LOC/train", "."),
    "validation": ("val", "validation", "ILSVRC2012_validation/data", "ILSVRC2012_validation"),
}
NAMES = ("synset_human.txt", "LOC_synset_mapping.txt", "ILSVRC2012_train/synset_human.txt")
SYNSET = re.compile(r"n\d{8}")


class ImageNet(RecordList):
    """Images of ImageNet with their classes: label = rank of the synset among those of the training set.

    The folder holds `train/<synset>/*.JPEG` and `val/<synset>/*.JPEG` (or the names of the paper's code,
    `ILSVRC2012_{train,validation}/data/<synset>`, or training synsets without a folder around them). Where only the validation
    set is there, its own synsets are ranked. A `synset_human.txt` or `LOC_synset_mapping.txt` in the folder names the classes.

    Args:
        root: the folder.
        size, resize, crop, flip: see `ldm.data.annotated.Annotated`.
        split: "train" or "validation".

    Raises:
        MissingFile: the folder, or that of the split, is not there.
        UserError: no synset folder, or a validation synset that the training set lacks.
    """

    def __init__(
        self,
        root: str,
        size: int,
        split: Literal["train", "validation"] = "train",
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
    ) -> None:
        super().__init__(f"ImageNet in {root!r}", ["label"], size, resize, crop, flip)
        folder = first_of(require(Path(root), "ImageNet"), FOLDERS[split], f"{split} images of ImageNet")
        training = next((Path(root) / name for name in FOLDERS["train"] if (Path(root) / name).is_dir()), folder)
        synsets = synsets_of(training)
        if not synsets:
            raise UserError(f"{training}: no synset folder (n01440764 and the like)")
        if strange := [name for name in synsets_of(folder) if name not in synsets]:
            raise UserError(f"{folder}: the synset {strange[0]} is not in {training}")
        rank = {name: i for i, name in enumerate(synsets)}
        self.class_names["label"] = human_names(Path(root), synsets)
        names = sorted(name for name in files_below(folder, SUFFIXES, self.broken) if name.split("/")[0] in rank)
        self.records = [Record(name, folder / name, label=rank[name.split("/")[0]]) for name in names]
        self.report_broken(len(self.records), len(names))


def synsets_of(folder: Path) -> list[str]:
    """Synsets that have a folder, sorted."""
    return sorted(entry.name for entry in folder.iterdir() if SYNSET.fullmatch(entry.name) and entry.is_dir())


def human_names(root: Path, synsets: list[str]) -> list[str]:
    """What people call the synsets, where a file says so; else the synsets."""
    found = next((root / name for name in NAMES if (root / name).is_file()), None)
    if found is None:
        return synsets
    spoken = dict(line.strip().split(" ", 1) for line in read_text(found).splitlines() if " " in line.strip())
    return [spoken.get(name, name).split(",")[0] for name in synsets]
