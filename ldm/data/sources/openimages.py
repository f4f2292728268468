"""OpenImages as downloaded: folders of images, and one long table of boxes."""

import csv
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from ldm.data.annotated import Annotated, Annotation
from ldm.data.boxtable import BoxTable
from ldm.data.files import first_of, read_list, require
from ldm.data.listing import Listing
from ldm.data.transforms import Crop, Size
from ldm.errors import UserError
from ldm.ranges import share, span

COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf")
DESCRIPTIONS = ("class-descriptions-boxable.csv", "oidv7-class-descriptions-boxable.csv")
LAST = "/m/01s55n"  # the last class in taming-transformers and in the released layout model


class OpenImages(Annotated):
    """Images of OpenImages with their boxes.

    The folder contains `train/*.jpg` (or `train_0/` to `train_f/`, as the archives unpack), `train-annotations-bbox.csv` (or
    `oidv6-train-annotations-bbox.csv`) and `class-descriptions-boxable.csv` (or `oidv7-class-descriptions-boxable.csv`); the
    tables may be in `annotations/`; "validation" and "test" are like "train". Classes are the
    ranks of the label names (`/m/...`) in sorted order, as in taming-transformers, whose filters these are, too. Invalid
    rows are skipped and listed in `broken` with file and line, undescribed classes and duplicate images of an id by their
    names.

    Args:
        root: the folder.
        size, resize, crop, flip, min_box: see `ldm.data.annotated.Annotated`.
        split: "train", "validation" or "test".
        classes: a text file of the display names or label names to use, one a line; all 601 without it.
        groups: boxes around groups have their own classes after the others: class + number of classes.
        min_area: smaller boxes are dropped (share of the image).
        objects: minimum and maximum number of boxes; images with fewer or more are skipped.

    Raises:
        MissingFile: names the missing file or folder.
        UserError: tables that are not OpenImages', an unknown class, or no valid image.
    """

    shuffled_boxes = True

    def __init__(
        self,
        root: str,
        size: Size,
        split: Literal["train", "validation", "test"] = "train",
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
        classes: str | None = None,
        groups: bool = False,
        min_area: float = 1e-4,
        objects: tuple[int, int] = (0, 100000),
        min_box: float = 0.0,
    ) -> None:
        share(min_area=min_area)
        span(objects=objects)
        super().__init__(f"OpenImages in {root!r}", ["boxes"], size, resize, crop, flip, min_box=min_box)
        folder = require(Path(root), "OpenImages")
        parts = sorted(part.name for part in folder.glob(f"{split}_[0-9a-f]") if part.is_dir())
        self.folder = folder if parts and not (folder / split).is_dir() else require(folder / split, "images of OpenImages")
        names = [f"{split}-annotations-bbox.csv", f"oidv6-{split}-annotations-bbox.csv"]
        table = first_of(folder, [*names, *(f"annotations/{name}" for name in names)], "boxes of OpenImages")
        places = [place + name for name in DESCRIPTIONS for place in ("", "annotations/")]
        described = first_of(folder, places, "classes of OpenImages")
        described_names, rank = self._read_classes(described, classes, groups)
        below = parts if self.folder == folder else [""]
        listings = {part: Listing(self.folder / part, self.broken) for part in below}
        found = {part: listing.pictures for part, listing in listings.items()}
        self.others = sum((listing.others() for listing in listings.values()), self.others)
        self.files = self._once(sorted(f"{part}/{name}" if part else name for part, names in found.items() for name in names))
        self.boxes = BoxTable()
        self._read_boxes(table, rank, described_names, groups, min_area)
        self.boxes.sort(len(self.files))
        counts = self.boxes.counts()
        self.chosen = np.flatnonzero((counts >= objects[0]) & (counts <= objects[1]))
        self.report_found(len(self.chosen), len(self.files))

    def _once(self, files: list[str]) -> list[str]:
        """The first file of each id."""
        first: dict[str, str] = {}
        for name in files:
            if first.setdefault(Path(name).stem, name) != name:
                self.broken.append(f"{self.folder / name}: a second picture of this id, beside {first[Path(name).stem]}")
        return list(first.values())

    def _read_classes(self, described: Path, chosen: str | None, groups: bool) -> tuple[Collection[str], dict[str, int]]:
        """All label names that are described, and the class index of those that are used."""
        names = {row[0]: row[1] for _, row in rows(described) if len(row) == 2 and row[0] != "LabelName"}
        if not names:
            raise UserError(f"{described}: expected lines like /m/011k07,Tortoise")
        if chosen is not None:
            lines = {line for _, line in read_list(Path(chosen))}
            if unknown := sorted(lines - set(names) - set(names.values())):
                raise UserError(f"{chosen}: {unknown[0]!r} is not a class of {described.name}")
        used = [label for label in names if chosen is None or lines & {label, names[label]}]
        order = sorted(used, key=lambda label: (label == LAST, label))
        self.class_names["boxes"] = [names[label] for label in order] + [f"{names[label]} (group)" for label in order if groups]
        return names.keys(), {label: i for i, label in enumerate(order)}

    def _read_boxes(self, table: Path, rank: dict[str, int], described: Collection[str], groups: bool, min_area: float) -> None:
        number = {Path(name).stem: i for i, name in enumerate(self.files)}
        absent: set[str] = set()
        unknown: Counter[str] = Counter()
        lines = rows(table)
        header = next(lines, (0, []))[1]
        if missing := [name for name in COLUMNS if name not in header]:
            raise UserError(f"{table}: has no column {missing[0]!r}: expected OpenImages' table of boxes")
        at = [header.index(name) for name in COLUMNS]
        for line, row in lines:
            try:
                image, label, x0, x1, y0, y1, group = (row[i] for i in at)
                box = (float(x0), float(y0), float(x1), float(y1))
                if not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
                    raise ValueError(f"the box {box} is outside [0, 1] or upside down")
            except (IndexError, ValueError) as error:
                self.broken.append(f"{table}:{line}: {error}")
                continue
            if image not in number:
                absent.add(image)
            elif label not in described:
                unknown[label] += 1
            elif label in rank and (box[2] - box[0]) * (box[3] - box[1]) >= min_area:
                self.boxes.add(number[image], rank[label] + len(rank) * int(groups and group == "1"), box)
        self.broken += [f"{table}: image {image}: not in {self.folder}" for image in sorted(absent)]
        self.broken += [f"{table}: class {label}: not described; it has {n} boxes" for label, n in sorted(unknown.items())]

    def __len__(self) -> int:
        return len(self.chosen)

    def record(self, index: int) -> Annotation:
        number = int(self.chosen[index])
        boxes, labels = self.boxes.of(number)
        return Annotation(self.files[number], self.folder / self.files[number], boxes=boxes, box_labels=labels)


def rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells of a CSV file.

    Raises:
        UserError: not text.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            yield from enumerate(csv.reader(file), 1)
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path}: not a CSV table ({error})") from error
