"""What is in a folder: images, their sizes, classes, captions, boxes, maps, masks, pairs."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from ldm.data.files import read_text
from ldm.data.listing import Listing
from ldm.data.metadata import BadLine, parse_boxes, read_rows
from ldm.data.order import spread
from ldm.data.sources.arrays import ARRAYS, TIFFS
from ldm.errors import MissingFile, UserError
from ldm.system.image_files import open_image

LOOKED_AT = 1000  # images of which the size is read, and maps of which the classes are
PROMPT = 12  # words of a caption that are shown as an example
BESIDE = {  # names of two folders -> what the second one holds for the first
    "segmentation": ("labels", "maps", "label_maps", "segmentation", "segmentations", "annotations"),
    "mask": ("masks", "mask"),
    "low_res": ("low", "lr", "lq", "low_res"),
}
TRAIN, HELD_OUT = ("train", "training"), ("val", "valid", "validation", "test")  # names of two folders of one data set
IMAGES = ("images", "image", "high", "hr", "hq", "gt", "high_res")
DEEP_MODES = ("I;16", "I;16L", "I;16B")


@dataclass(frozen=True)
class Survey:
    """What was found in a folder.

    Attributes:
        root: the folder of the images.
        beside: a second folder with a file per image, by the key that it gives.
        validation: a folder of held-out images.
        count: number of images or arrays.
        sizes: width and height of up to `LOOKED_AT` of them.
        channels, bits: of the images; arrays have any number of channels and 0 bits.
        values: smallest and largest value of arrays.
        classes: names of subfolders, if every image is in one.
        deeper: whether these have subfolders, which are not classes.
        broken: how many of the images that were looked at cannot be read.
        captions: number of text files beside images, and of lines with a caption.
        caption: the first words of one of them.
        columns: numeric columns of the metadata with their smallest and largest value.
        lines: number of lines of the metadata with a key, by key.
        objects: largest number of boxes of an image.
        broken_boxes: why boxes of the metadata cannot be used; "" if all can.
        numbers_of_classes: highest index + 1, by key.
    """

    root: Path
    beside: Mapping[str, Path] = field(default_factory=dict)
    validation: Path | None = None
    count: int = 0
    sizes: tuple[tuple[int, int], ...] = ()
    channels: int = 3
    bits: int = 8
    values: tuple[float, float] | None = None
    classes: tuple[str, ...] = ()
    deeper: bool = False
    broken: int = 0
    captions: int = 0
    caption: str = ""
    columns: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    objects: int = 0
    broken_boxes: str = ""
    numbers_of_classes: Mapping[str, int] = field(default_factory=dict)

    @property
    def side(self) -> int:
        """Median of the shorter sides."""
        return int(median(min(size) for size in self.sizes))

    @property
    def aspect(self) -> float:
        """Median of width / height."""
        return median(width / height for width, height in self.sizes)

    def said(self) -> list[str]:
        """What was found, in words."""
        what = f"arrays of {self.channels} channels" if not self.bits else {1: "grey ", 4: "transparent "}.get(self.channels, "") + "images"
        depth = ", 16 bit" if self.bits == 16 else ""
        text = [f"{self.count} {what}{depth}, typically {self.side} pixels on the shorter side, width/height {self.aspect:.2f}"]
        if self.classes:
            text.append(f"{len(self.classes)} subfolders: {', '.join(self.classes[:6])}{' ...' if len(self.classes) > 6 else ''}")
        text += ["folders below these are not classes"] if self.deeper else []
        text += [f"{self.broken} of {len(self.sizes) + self.broken} files cannot be read, and are left out"] if self.broken else []
        text += [f"captions of {self.captions} images"] if self.captions else []
        text += [f"{count} lines with {key!r}" for key, count in self.lines.items()]
        text += [f"boxes that cannot be used: {self.broken_boxes}"] if self.broken_boxes else []
        text += [f"column {name!r}: {low:g} to {high:g}" for name, (low, high) in self.columns.items()]
        text += [f"held-out images in {self.validation}"] if self.validation else []
        return text + [f"{key} for the images in {folder}" for key, folder in self.beside.items()]


def survey(folder: Path) -> Survey:
    """Look at a folder.

    Raises:
        MissingFile: no such folder.
        UserError: no image in it.
    """
    if not folder.is_dir():
        raise MissingFile(f"{folder}: no such folder; name the folder of your images")
    root, beside = _beside(folder)
    validation = None
    if root == folder and (split := _split(folder)):
        root, beside = _beside(split[0])
        validation = None if beside else split[1]
    listing = Listing(root, [])
    arrays = listing.ending(ARRAYS) or ([] if listing.pictures else listing.ending(TIFFS))
    names = arrays or listing.pictures
    if not names:
        raise UserError(f"{folder}: no image in it")
    stems = {str(Path(name).with_suffix("")): name for name in names}
    if mask := next((name for stem, name in stems.items() if stem.endswith("_mask") and stem.removesuffix("_mask") in stems), None):
        advice = "put images into images/ and their masks, with equal names, into masks/ beside it"
        raise UserError(f"{root}: {mask} seems to be a mask: {advice}")
    chosen = [names[i] for i in sorted(spread(len(names), LOOKED_AT, ()))]
    looks = [look for look in (_look(root / name, bool(arrays)) for name in chosen) if look]
    if not looks:
        raise UserError(f"{folder}: none of its {len(names)} images can be read")
    (channels, bits), _ = Counter((look.channels, look.bits) for look in looks).most_common(1)[0]
    classes = _subfolders(names)
    if validation is not None and (not (held := Listing(validation, []).pictures) or _subfolders(held) != classes):
        validation = None  # classes are numbered by the folders that there are, so that others would be other numbers
    found = _metadata(listing)
    numbers = dict(found.pop("numbers_of_classes"))
    if not found["captions"]:
        sidecars = [name for name in map(listing.sidecar, listing.pictures) if name is not None]
        found |= {"captions": len(sidecars), "caption": _first_words(root, sidecars)}
    if "segmentation" in beside:
        numbers["segmentation"] = _classes_of_maps(beside["segmentation"])
    return Survey(
        root=root,
        beside=beside,
        validation=validation,
        count=len(names),
        sizes=tuple(look.size for look in looks),
        channels=channels,
        bits=bits,
        values=(min(look.low for look in looks), max(look.high for look in looks)) if arrays else None,
        classes=classes,
        deeper=bool(classes) and any(name.count("/") > 1 for name in names),
        broken=len(chosen) - len(looks),
        numbers_of_classes=numbers,
        **found,
    )


def _beside(folder: Path) -> tuple[Path, dict[str, Path]]:
    """The folder of the images, and that of their maps, masks or low-resolution versions, if their names say so."""
    inside = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    root = next((inside[name] for name in IMAGES if name in inside), None)
    second = {key: inside[name] for key, known in BESIDE.items() for name in known if name in inside}
    return (root, second) if root is not None and second else (folder, {})


def _split(folder: Path) -> tuple[Path, Path | None] | None:
    """The folders of training and held-out images, if there are no other folders and neither images nor metadata beside them."""
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    inside = {entry.name.lower(): entry for entry in entries if entry.is_dir()}
    train = [inside[name] for name in TRAIN if name in inside]
    if not train or inside.keys() - {*TRAIN, *HELD_OUT}:
        return None
    listing = Listing(folder, [])
    if listing.metadata() or any("/" not in name for name in listing.pictures):
        return None
    return train[0], next((inside[name] for name in HELD_OUT if name in inside), None)


def _subfolders(names: list[str]) -> tuple[str, ...]:
    if any("/" not in name for name in names):
        return ()
    found = sorted({name.partition("/")[0] for name in names})
    parts_of_a_set = {name.lower() for name in found} <= {*TRAIN, *HELD_OUT}
    return tuple(found) if len(found) > 1 and not parts_of_a_set else ()


@dataclass(frozen=True)
class _Look:
    size: tuple[int, int]
    channels: int
    bits: int
    low: float = 0.0
    high: float = 0.0


def _look(path: Path, array: bool) -> _Look | None:
    """Size and kind of one image; None if it cannot be read."""
    try:
        if array and path.suffix.lower() not in TIFFS:
            value = np.load(path, mmap_mode="r", allow_pickle=False)
            value = value[value.files[0]] if isinstance(value, np.lib.npyio.NpzFile) else value
            first = value.ndim == 2 or value.shape[0] < value.shape[-1]
            height, width = value.shape[-2:] if first else value.shape[:2]
            channels = 1 if value.ndim == 2 else value.shape[0] if first else value.shape[-1]
            return _Look((width, height), channels, 0, float(np.min(value)), float(np.max(value)))
        with open_image(path) as image:
            clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            transparent = clear and np.asarray(image.convert("RGBA").getchannel("A")).min() < 255
            channels = 4 if transparent else 1 if image.mode in ("1", "L", *DEEP_MODES) else 3
            return _Look(image.size, channels, 16 if image.mode in DEEP_MODES else 8)
    except (OSError, ValueError, IndexError, Image.DecompressionBombError):
        return None


def _metadata(listing: Listing) -> dict[str, Any]:
    """What the lines of the metadata files have."""
    lines: Counter[str] = Counter()
    columns: dict[str, tuple[float, float]] = {}
    numbers: dict[str, int] = {}
    objects = captions = 0
    caption = broken_boxes = ""
    for row in _rows(listing):
        text = row.get("caption") or row.get("text")
        captions += bool(text)
        caption = caption or _shortened(text)
        for key in ("label", "segmentation", "mask"):
            lines[key] += row.get(key) is not None
        if row.get("boxes") is not None:
            try:
                boxes, labels = parse_boxes(row["boxes"], None)
                lines["boxes"] += 1
                objects = max(objects, len(boxes))
                _highest(numbers, "boxes", labels.tolist())
            except BadLine as error:
                broken_boxes = broken_boxes or f"{row.get('file_name')}: {error}"
        _highest(numbers, "label", [row.get("label")])
        for key, value in row.items():
            number = None if key in ("label", "boxes", "file_name", "caption", "text") else _number(value)
            if number is not None:
                low, high = columns.get(key, (number, number))
                columns[key] = (min(low, number), max(high, number))
    texts = {"captions": captions, "caption": caption, "broken_boxes": broken_boxes}
    return {"lines": dict(+lines), "columns": columns, "objects": objects, "numbers_of_classes": numbers} | texts


def _first_words(root: Path, sidecars: list[str]) -> str:
    """The caption of the first text file that has one."""
    for name in sidecars:
        with suppress(UserError, OSError):
            if text := _shortened(read_text(root / name)):
                return text
    return ""


def _shortened(text: Any) -> str:
    """The first words of a caption, or of the first one of a list."""
    first = next(iter(text), "") if isinstance(text, list) else text
    return " ".join(str(first or "").split()[:PROMPT])


def _rows(listing: Listing) -> Iterator[dict[str, Any]]:
    for name in listing.metadata():
        for _, row in read_rows(listing.root / name):
            if isinstance(row, dict):
                yield row


def _number(value: Any) -> float | None:
    """A number, also from the cell of a .csv; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _highest(numbers: dict[str, int], key: str, values: list[Any]) -> None:
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool):
            numbers[key] = max(numbers.get(key, 0), value + 1)


def _classes_of_maps(folder: Path) -> int:
    """Highest class index of the label maps of a folder + 1, as far as it was looked at; 255 is unlabelled."""
    found = 0
    paths = [path for path in sorted(folder.rglob("*.png"))]
    for i in sorted(spread(len(paths), LOOKED_AT, ())):
        try:
            with open_image(paths[i]) as image:
                values = np.unique(np.asarray(image))
        except (OSError, ValueError):
            continue
        known = values[values != 255]
        found = max(found, int(known.max()) + 1 if known.size else 0)
    return found
