"""ImageNet as downloaded: a folder per synset, or the validation images in one folder and their classes in a list."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from ldm.data.annotated import Annotation
from ldm.data.files import first_of, read_text, require
from ldm.data.listing import Listing
from ldm.data.sources.annotated_folder import RecordList
from ldm.data.transforms import Crop, Size
from ldm.errors import UserError

FOLDERS = {
    "train": ("train", "ILSVRC2012_train/data", "ILSVRC2012_train", "ILSVRC/Data/CLS-LOC/train", "."),
    "validation": ("val", "validation", "ILSVRC2012_validation/data", "ILSVRC2012_validation", "ILSVRC/Data/CLS-LOC/val"),
}
NAMES = ("synset_human.txt", "LOC_synset_mapping.txt", "ILSVRC2012_train/synset_human.txt")
SYNSET = re.compile(r"n\d{8}")
LISTS = ("LOC_val_solution.csv", "validation_synset.txt", "ILSVRC2012_validation/validation_synset.txt")  # Kaggle's, CompVis's
DEVKIT = "ILSVRC2012_devkit_t12"


class ImageNet(RecordList):
    """Images of ImageNet with their classes: label = rank of the synset among those of the training set.

    The folder contains `train/<synset>/*.JPEG` and `val/<synset>/*.JPEG` (or the names of the paper's code,
    `ILSVRC2012_{train,validation}/data/<synset>`, or Kaggle's `ILSVRC/Data/CLS-LOC/{train,val}`, or training synsets without a
    folder around them). Validation images without synset folders get their classes from `LOC_val_solution.csv`,
    `validation_synset.txt` or the unpacked `ILSVRC2012_devkit_t12`. If there is only the validation set, its own synsets are
    ranked. Synsets without images keep their rank and are listed in `broken`, as are images outside synset folders. A
    `synset_human.txt` or `LOC_synset_mapping.txt` in the folder names the classes.

    Args:
        root: the folder.
        size, resize, crop, flip: see `ldm.data.annotated.Annotated`.
        split: "train" or "validation".

    Raises:
        MissingFile: the folder, or that of the split, is missing.
        UserError: no synset folder, or a validation synset that is missing in the training set.
    """

    def __init__(
        self,
        root: str,
        size: Size,
        split: Literal["train", "validation"] = "train",
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
    ) -> None:
        super().__init__(f"ImageNet in {root!r}", ["label"], size, resize, crop, flip)
        folder = first_of(require(Path(root), "ImageNet"), FOLDERS[split], f"{split} images of ImageNet")
        training = next((Path(root) / name for name in FOLDERS["train"] if (Path(root) / name).is_dir()), folder)
        listing = Listing(folder, self.broken)
        names, self.others = listing.pictures, listing.others()
        listed = read_solution(Path(root)) if split == "validation" and not synsets_of(folder) else None
        synsets = synsets_of(training) or sorted(set((listed or {}).values()))
        if not synsets:
            packed = ": its .tar files must be unpacked, each into a folder of its name" if any(training.glob("n*.tar")) else ""
            raise UserError(f"{training}: no synset folder (n01440764 and the like){packed}")
        if unknown := [name for name in synsets_of(folder) if name not in synsets]:
            raise UserError(f"{folder}: the synset {unknown[0]} is not in {training}")
        rank = {name: i for i, name in enumerate(synsets)}
        self.class_names["label"] = human_names(Path(root), synsets)
        self.records = []
        for name in names:
            synset = name.split("/")[0] if listed is None else listed.get(Path(name).stem, "no synset")
            if synset in rank:
                self.records.append(Annotation(name, folder / name, label=rank[synset]))
            elif listed is not None:
                self.broken.append(f"{folder / name}: of {synset}, which is not among the {len(rank)} classes")
            elif folder != Path(root):  # which may contain other things
                self.broken.append(f"{folder / name}: in no synset's folder")
        filled = {record.name.split("/")[0] for record in self.records}
        self.broken += [f"{folder / name}: no image in it" for name in synsets_of(folder) if name not in filled]
        self.report_found(len(self.records), len(names))


def read_solution(root: Path) -> Mapping[str, str]:
    """Synset of each validation image, by its name without suffix.

    Raises:
        MissingFile: no such file; the message names those that were expected.
        UserError: files that cannot be read.
    """
    found = first_of(root, [*LISTS, f"{DEVKIT}/data"], "classes of validation images without synset folders")
    if found.is_dir():
        return _read_devkit(require(found / "ILSVRC2012_validation_ground_truth.txt", "devkit"), require(found / "meta.mat", "devkit"))
    rows = [(re.split(r"[.,\s]", line, maxsplit=1)[0], SYNSET.search(line)) for line in read_text(found).splitlines()]
    solution = {name: synset.group() for name, synset in rows if name and synset}
    if not solution:
        raise UserError(f"{found}: expected lines like ILSVRC2012_val_00000001,n01751748")
    return solution


def _read_devkit(truth: Path, meta: Path) -> Mapping[str, str]:
    """The devkit numbers the classes in its own order; `meta.mat` maps them to synsets."""
    try:
        from scipy.io import loadmat  # here, for it takes a while

        synsets = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in np.atleast_1d(loadmat(meta, squeeze_me=True)["synsets"])}
        numbers = [int(line) for line in read_text(truth).split()]
        return {f"ILSVRC2012_val_{i:08}": synsets[number] for i, number in enumerate(numbers, 1)}
    except UserError:
        raise
    except Exception as error:  # a damaged meta.mat fails in many ways
        raise UserError(f"{truth.parent}: expected ground truth and meta.mat of {DEVKIT} ({error})") from error


def synsets_of(folder: Path) -> list[str]:
    """Synsets that have a folder, sorted."""
    return sorted(entry.name for entry in folder.iterdir() if SYNSET.fullmatch(entry.name) and entry.is_dir())


def human_names(root: Path, synsets: list[str]) -> list[str]:
    """Readable names of the synsets, if there is a file with them; else the synsets."""
    found = next((root / name for name in NAMES if (root / name).is_file()), None)
    if found is None:
        return synsets
    readable = dict(line.strip().split(" ", 1) for line in read_text(found).splitlines() if " " in line.strip())
    return [readable.get(name, name).split(",")[0] for name in synsets]
