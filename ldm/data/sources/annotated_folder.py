"""Folders of images annotated by `metadata.jsonl` or `metadata.csv` or paired with label maps; folders of arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from ldm.data.annotated import Annotated, Annotation
from ldm.data.files import path_hint, require
from ldm.data.listing import METADATA, Listing
from ldm.data.metadata import read_metadata
from ldm.data.reading import Split
from ldm.data.sources.arrays import ARRAYS, TIFFS
from ldm.data.transforms import Crop, Size
from ldm.errors import MissingFile, UserError
from ldm.ranges import share
from ldm.system.image_files import counted


class RecordList(Annotated):
    """Images whose records fit in memory."""

    records: list[Annotation]

    def __len__(self) -> int:
        return len(self.records)

    def record(self, index: int) -> Annotation:
        return self.records[index]

    def kinds(self) -> Sequence[str | int]:
        return [record.name.rpartition("/")[0] if record.label is None else record.label for record in self.records]

    def choose(self, split: Split, held_out: float) -> None:
        """Keep the records of a split, and report what was found.

        Raises:
            UserError: the split is empty.
        """
        total = len(self.records)
        chosen = self.in_split((record.file or record.name for record in self.records), split, held_out)
        self.records = [self.records[i] for i in chosen]
        captions = (record.captions for record in self.records) if "caption" in self.give else ()
        self.report_found(len(self.records), total + len(self.broken), split, total, captions)


class AnnotatedFolder(RecordList):
    """Images listed with annotations by `metadata.jsonl` or `metadata.csv` files in or below a folder.

    A line is `{"file_name", "caption", "label", "boxes": [{"label", "box": [x0, y0, x1, y1]}], "segmentation", "mask"}`; only
    the keys in `give` are required. `text` is an alias of `caption`; of a list of captions one is drawn at each position in the order.
    Names are relative to the metadata, or absolute, and must be inside the folder. Boxes are fractions of the upright
    image's width and height; label maps are PNGs of class indices of the image's size (255: unlabelled), masks are white where
    something is to be filled. Invalid lines are skipped and listed in `broken` with file and line; label maps and masks are
    read with their image, and an invalid one is treated like an unreadable image.

    Args:
        root: the folder.
        size, resize, crop, flip, channels, values, min_box, depth: see `ldm.data.annotated.Annotated`.
        give: keys of a sample beside image and id: those above, and any other column that a conditioner reads (numbers, texts, lists
            of numbers, names of .npy files).
        classes: number of classes of "label", "boxes" and "segmentation", by key; None disables the check.
        texts: other columns in `give` that are text, even where a cell of a .csv looks like a number.
        split: "all", or "train" / "validation" by a hash of the file's name.
        held_out: share of the files in "validation".

    Raises:
        MissingFile: no such folder, or no metadata in it.
        UserError: no valid line; the message names the first one and its problem.
    """

    has_columns = True

    def __init__(
        self,
        root: str,
        size: Size,
        give: Sequence[str] = ("caption",),
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
        channels: int = 3,
        values: tuple[float, float] | None = None,
        min_box: float = 0.0,
        classes: Mapping[str, int] | None = None,
        split: Split = "all",
        held_out: float = 0.05,
        texts: Sequence[str] = (),
        depth: Literal[8, 16] = 8,
    ) -> None:
        share(held_out=held_out)
        known = classes or {}
        what = f"annotated folder {root!r}"
        super().__init__(what, give, size, resize, crop, flip, channels, values, min_box, known.get("segmentation"), depth)
        if stray := known.keys() - {"label", "boxes", "segmentation"}:
            raise UserError(f"{what}: classes: unknown key {min(stray)!r} (known: label, boxes, segmentation)")
        self.class_counts |= known
        listing = Listing(require(Path(root), "annotated folder"), self.broken)
        files = listing.metadata()
        if not files:
            parquet = "metadata.parquet" in listing.files
            advice = " (metadata.parquet is, which is not read: save it as .csv)" if parquet else path_hint(listing.root / METADATA[0])
            raise MissingFile(f"list of images: no {' and no '.join(METADATA)} in {root!r}{advice}; put it there or set its path")
        self.records = read_metadata(listing, files, self.give, known, texts)
        self.others = listing.others(*METADATA)
        self.choose(split, held_out)


class PairedFolders(RecordList):
    """Images in one folder and label maps or masks in another, with the same names except for the suffix.

    Label maps are PNGs of class indices (255: unlabelled) of their image's size, masks are white where something is to be filled. Images
    without one are skipped and counted.

    Args:
        root: folder of the images, also nested.
        maps: folder of the label maps or masks (.png).
        give: "segmentation", or "mask".
        size, resize, crop, flip, channels, depth: see `ldm.data.annotated.Annotated`.
        classes: number of classes; a map with a class out of range is unreadable.
        split: "all", or "train" / "validation" by a hash of the file's name, the same as `ImageFolder`'s.
        held_out: share of the files in "validation".

    Raises:
        MissingFile: one of the folders is missing.
        UserError: no image has a map.
    """

    def __init__(
        self,
        root: str,
        maps: str,
        size: Size,
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
        classes: int | None = None,
        split: Split = "all",
        held_out: float = 0.05,
        give: Literal["segmentation", "mask"] = "segmentation",
        channels: Literal[1, 3, 4] = 3,
        depth: Literal[8, 16] = 8,
    ) -> None:
        share(held_out=held_out)
        what = "label map" if give == "segmentation" else "mask"
        super().__init__(f"image folder {root!r}", [give], size, resize, crop, flip, channels, map_classes=classes, depth=depth)
        listing = Listing(require(Path(root), "image folder"), self.broken)
        self.others = listing.others()
        there = Listing(require(Path(maps), f"folder of {what}s"), self.broken).files
        self.records = []
        for name in listing.pictures:
            other = Path(name).with_suffix(".png").as_posix()
            if other in there:
                self.records.append(Annotation(name, Path(root) / name, **{give: Path(maps) / other}))  # type: ignore[arg-type]
            else:
                self.broken.append(f"{Path(root) / name}: no {what} {other} in {maps}")
        self.choose(split, held_out)


class ArrayFolder(RecordList):
    """Images of any number of channels: .npy, .npz and .tif files in and below a folder.

    Channels are the first or last axis. 8- and 16-bit integers are mapped to [-1, 1] by the range of their type.

    Args:
        root: the folder.
        channels: number of channels of every array.
        values: values that are mapped to -1 and 1; required for floats outside [-1, 1] and for integers above 16 bit.
        size, resize, crop, flip: see `ldm.data.annotated.Annotated`.
        split: "all", or "train" / "validation" by a hash of the file's name.
        held_out: share of the files in "validation".

    Raises:
        MissingFile: no such folder.
        UserError: no array in it.
    """

    def __init__(
        self,
        root: str,
        size: Size,
        channels: int,
        values: tuple[float, float] | None = None,
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
        split: Split = "all",
        held_out: float = 0.05,
    ) -> None:
        share(held_out=held_out)
        super().__init__(f"folder of arrays {root!r}", [], size, resize, crop, flip, channels, values)
        listing = Listing(require(Path(root), "folder of arrays"), self.broken)
        names = listing.ending(ARRAYS | TIFFS)
        self.others = listing.others(read=names)
        if not names:
            others = f", there are {counted(self.others)}" if self.others else ""
            raise UserError(f"{self.what}: no array in it (looked for {', '.join(sorted(ARRAYS | TIFFS))}{others})")
        self.records = [Annotation(name, Path(root) / name) for name in names]
        self.choose(split, held_out)
