"""Sets of images for measures: 8 bit, RGB, all of one size, and never resized unless requested."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from ldm.data.batch import Sample
from ldm.data.images import UnreadableImage, converted, read_image, to_image
from ldm.data.listing import Listing
from ldm.data.transforms import middle
from ldm.errors import MissingFile, UserError
from ldm.system.image_files import counted, open_image

Filter = Literal["bicubic", "bilinear", "lanczos", "box"]
FILTERS: dict[str, Image.Resampling] = {name: Image.Resampling[name.upper()] for name in get_args(Filter)}
GRID = "grid.png"  # the overview that sampling scripts write beside their images
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class Prepare:
    """Resize and crop of an image before it is measured; none without a size.

    Attributes:
        size: side of the resulting square.
        filter: of Pillow, antialiased.
        crop_first: crop the centre square at native size, then resize (LSUN); else resize the shorter side, then crop (ImageNet).
    """

    size: int | None = None
    filter: Filter = "bicubic"
    crop_first: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise UserError(f"resize to {self.size}: expected at least 1 pixel")
        if self.crop_first and self.size is None:
            raise UserError("--crop-first is the order of crop and resize: name its size (--resize PIXELS)")
        if self.filter not in FILTERS:
            raise UserError(f"resize filter {self.filter!r} is unknown; there are {', '.join(FILTERS)}")

    @property
    def resize_text(self) -> str:
        """For the record."""
        if self.size is None:
            return "none"
        side = "centre square" if self.crop_first else "shorter side"
        return f"{side} to {self.size}, {self.filter}, antialiased (Pillow), 8 bit"

    @property
    def crop_text(self) -> str:
        """For the record."""
        if self.size is None:
            return "none"
        return "centre square at native size, before the resize" if self.crop_first else f"centre {self.size}, after the resize"

    def __call__(self, image: Image.Image) -> Image.Image:
        if self.size is None:
            return image
        resample = FILTERS[self.filter]
        if self.crop_first:
            return centre(image, min(image.size)).resize((self.size, self.size), resample)
        scale = self.size / min(image.size)
        width, height = (max(self.size, round(side * scale)) for side in image.size)
        return centre(image.resize((width, height), resample), self.size)


def centre(image: Image.Image, side: int) -> Image.Image:
    """The square of `side` pixels in the middle."""
    left, top = middle(image.width, side), middle(image.height, side)
    return image.crop((left, top, left + side, top + side))


class EvaluationSet(Dataset[Any], ABC):
    """Images by number: `(H, W, 3)` uint8, or the reason why one cannot be read.

    Attributes:
        what: the set, in messages and records.
        names: of the images; pairs are found by them.
        format: how they are stored.
        resize, crop: of the stored pictures, for the record.
        settings: sampling settings stored in each image; None if it has none.
        skips: whether images that cannot be read are left out instead of raising an error.
    """

    what: str
    names: list[str]
    format: str
    resize: str = "none"
    crop: str = "none"
    settings: list[dict[str, Any] | None]
    skips = False

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> np.ndarray | str: ...


class FolderSet(EvaluationSet):
    """Image files below a folder, sorted by name.

    Args:
        root: the folder.
        prepare: resize and crop.

    Raises:
        MissingFile: no folder, or no image in it.
        UserError: without `prepare`, images of several sizes; a file that cannot be opened.
    """

    def __init__(self, root: Path, prepare: Prepare = Prepare()) -> None:
        if not root.is_dir():
            raise MissingFile(f"{root}: no such folder of images")
        self.root, self.prepare, self.what = root, prepare, f"folder {root}"
        self.resize, self.crop = prepare.resize_text, prepare.crop_text
        broken: list[str] = []
        listing = Listing(root, broken)
        if broken:
            raise UserError(f"{broken[0]}; a set is measured completely or not at all")
        headers = {name: read_header(root / name) for name in listing.log_pictures()}
        if any(header.settings for header in headers.values()) and GRID in headers and not headers[GRID].settings:
            del headers[GRID]
        if not headers:
            raise MissingFile(f"{root}: no image in it" + (f", but {others}" if (others := counted(listing.others())) else ""))
        self.names, self.settings = list(headers), [header.settings for header in headers.values()]
        self.format = ", ".join(sorted({header.format for header in headers.values()}))
        sizes: dict[tuple[int, int], str] = {}
        for name, header in headers.items():
            sizes.setdefault(header.size, name)
        if prepare.size is None and len(sizes) > 1:
            (first, a), (second, b) = list(sizes.items())[:2]
            raise UserError(
                f"{root}: {a} is {first[0]}x{first[1]}, {b} is {second[0]}x{second[1]}; name a resize, or give images of one size"
            )

    def __getitem__(self, index: int) -> np.ndarray | str:
        try:
            return np.asarray(self.prepare(read_image(self.root / self.names[index], 3)))
        except UnreadableImage as error:
            return f"{self.root / self.names[index]}: {error}"


@dataclass(frozen=True)
class Header:
    """Width and height, format, and the text chunk "ldm" of PNGs of the sampling scripts."""

    size: tuple[int, int]
    format: str
    settings: dict[str, Any] | None


def read_header(path: Path) -> Header:
    """Without decoding pixels.

    Raises:
        UserError: not an image, or a text chunk "ldm" that is not JSON.
    """
    try:
        with open_image(path) as opened:
            width, height = opened.size
            turned = opened.getexif().get(0x0112) in TURNED
            deep = " (16 bit, reduced to 8)" if opened.mode.startswith("I;16") else ""
            text, kind = opened.info.get("ldm"), f"{opened.format}{deep}"
    except Exception as error:  # Pillow's plugins raise many kinds; each means that this file cannot be read
        raise UserError(f"{path}: cannot be read as an image ({error})") from error
    try:
        settings = None if text is None else json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: its text chunk 'ldm' is not JSON ({error})") from error
    return Header((height, width) if turned else (width, height), kind, settings if isinstance(settings, dict) else None)


class DataOfConfig(EvaluationSet):
    """The images of a data set as a model is trained on them: its own resize and crop, rounded to 8 bit, transparency over white.

    What it cannot read or skips on purpose is left out, not replaced by another image as in training.

    Args:
        dataset: yields samples with `image` in [-1, 1].
        what: for messages and the record.
        recipe: the params of its config, for the record.
    """

    skips = True

    def __init__(self, dataset: Dataset[Sample], what: str, recipe: str) -> None:
        self.dataset, self.what, self.format = dataset, what, f"data set {type(dataset).__name__}, 8 bit"
        self.resize = self.crop = f"the data set's own: {recipe}"
        self.names = [f"{i:06d}" for i in range(len(dataset))]  # type: ignore[arg-type]
        self.settings = [None] * len(self.names)

    def __getitem__(self, index: int) -> np.ndarray | str:
        sample = self.dataset[index]
        if sample.get("skipped"):
            return str(sample["skipped"][0])
        if len(sample["image"]) not in (1, 3, 4):
            raise UserError(f"{self.what}: images of {len(sample['image'])} channels; measures take 1, 3, or 4 with transparency")
        return np.asarray(converted(to_image(sample["image"]), 3))
