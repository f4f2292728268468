"""Sets of images for measures: 8 bit, RGB, all of one size, and never resized unless requested by name."""

import json
import zipfile
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from ldm.data.batch import Sample
from ldm.data.images import UnreadableImage, read_image, to_image
from ldm.data.listing import Listing
from ldm.data.transforms import middle
from ldm.errors import MissingFile, UserError
from ldm.system.image_files import counted, open_image

Filter = Literal["bicubic", "bilinear", "lanczos", "box"]
FILTERS: dict[str, Image.Resampling] = {name: Image.Resampling[name.upper()] for name in ("bicubic", "bilinear", "lanczos", "box")}
GRID = "grid.png"  # the sampling scripts write this overview beside the images; it is none of them
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class Prepare:
    """What is done to an image before it is measured; nothing unless a size is given.

    Attributes:
        size: side of the square that comes out.
        filter: of Pillow, antialiased.
        crop_first: cut the centre square at native size, then scale (LSUN); else scale the shorter side, then cut (ImageNet).
    """

    size: int | None = None
    filter: Filter = "bicubic"
    crop_first: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise UserError(f"resize to {self.size}: expected at least 1 pixel")
        if self.crop_first and self.size is None:
            raise UserError("--crop-first says when to crop in a resize: name its size (--resize PIXELS)")
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
    """Images by number: `(H, W, 3)` uint8, or a string that says why an entry is left out.

    Attributes:
        what: the set, as messages and records name it.
        names: of the images; pairs are found by them.
        format: how they are stored.
        resize, crop: what has been done to the stored pictures, for the record.
        settings: sampling settings stored in each image; None if it has none.
    """

    what: str
    names: list[str]
    format: str
    resize: str = "none"
    crop: str = "none"
    settings: list[dict[str, Any] | None]

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> np.ndarray | str: ...


class FolderSet(EvaluationSet):
    """Image files below a folder, in the order of their names.

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
        headers = {name: read_header(root / name) for name in listing.said()}
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
    """What a file says before its pixels: width and height, format, and the text chunk "ldm" of our PNGs."""

    size: tuple[int, int]
    format: str
    settings: dict[str, Any] | None


def read_header(path: Path) -> Header:
    """Without decoding pixels.

    Raises:
        UserError: no image, or a text chunk of ours that is no JSON.
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
        raise UserError(f"{path}: its text chunk 'ldm' is no JSON ({error})") from error
    return Header((height, width) if turned else (width, height), kind, settings if isinstance(settings, dict) else None)


class NpzSet(EvaluationSet):
    """The layout of ADM's evaluation script: an .npz with `arr_0`, `(N, H, W, 3)` uint8, and maybe labels in `arr_1`.

    A file that was saved uncompressed (np.savez) is read from disk image by image, never as a whole. How the images were made may
    stand in a file of the same name with the ending .json.

    Raises:
        MissingFile: no such file.
        UserError: another layout.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise MissingFile(f"{path}: no such .npz of images")
        self.path, self.what, self.format = path, f"file {path}", "npz, uint8"
        self.array: np.ndarray | None = None
        try:
            with np.load(path, allow_pickle=False) as stored:
                members = set(stored.files)
                labels = stored["arr_1"] if "arr_1" in members else None
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: not a whole .npz ({error})") from error
        if "arr_0" not in members:
            raise UserError(f"{path}: has no arr_0 (uint8, N x H x W x 3); it has {', '.join(sorted(members)) or 'nothing'}")
        try:
            array = self._open()
        except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: its arr_0 cannot be read ({error})") from error
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3) or not len(array):
            raise UserError(f"{path}: arr_0 is {array.dtype} {array.shape}, expected uint8 N x H x W x 3")
        self.names = [f"{i:05d}" for i in range(len(array))]
        self.settings = self._settings(labels)

    def _settings(self, labels: np.ndarray | None) -> list[dict[str, Any] | None]:
        beside = self.path.with_suffix(".json")
        if not beside.is_file():
            return [None] * len(self.names)
        try:
            shared = json.loads(beside.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{beside}: no JSON ({error})") from error
        if not isinstance(shared, dict):
            raise UserError(f"{beside}: expected an object with the settings of {self.path.name}")
        whole = labels is not None and labels.shape == (len(self.names),)
        return [{**shared, **({"label": int(labels[i])} if whole else {})} for i in range(len(self.names))]  # type: ignore[index]

    def _open(self) -> np.ndarray:
        array = stored_array(self.path, "arr_0") if self.array is None else self.array
        self.array = array
        return array

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "array": None}  # other processes open the file themselves

    def __getitem__(self, index: int) -> np.ndarray | str:
        image = np.array(self._open()[index])
        return image.repeat(3, axis=2) if image.shape[2] == 1 else image


def stored_array(path: Path, member: str) -> np.ndarray:
    """An array of an .npz, mapped from disk where it is not compressed."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{member}.npy")
        with archive.open(info) as head:
            version = np.lib.format.read_magic(head)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(head)
            offset = head.tell()
    if info.compress_type != zipfile.ZIP_STORED or fortran or dtype.hasobject:
        with np.load(path, allow_pickle=False) as stored:
            return np.asarray(stored[member])
    with open(path, "rb") as file:  # a local header is 30 bytes, then the name, then an extra field of its own length
        file.seek(info.header_offset + 26)
        lengths = np.frombuffer(file.read(4), dtype="<u2")
    start = info.header_offset + 30 + int(lengths.sum()) + offset
    return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape)


class DataOfConfig(EvaluationSet):
    """The images of a data set as a model is trained on them: its own resize and crop, rounded to 8 bit.

    What it cannot read, or skips on purpose, is left out instead of being stood in for.

    Args:
        dataset: yields samples with `image` in [-1, 1].
        what: for messages and the record.
        recipe: how it was built, for the record: the params of its config.
    """

    def __init__(self, dataset: Dataset[Sample], what: str, recipe: str) -> None:
        self.dataset, self.what, self.format = dataset, what, f"data set {type(dataset).__name__}, 8 bit"
        self.resize = self.crop = f"the data set's own: {recipe}"
        self.names = [f"{i:06d}" for i in range(len(dataset))]  # type: ignore[arg-type]
        self.settings = [None] * len(self.names)

    def __getitem__(self, index: int) -> np.ndarray | str:
        sample = self.dataset[index]
        if sample.get("skipped"):
            return str(sample["skipped"][0])
        if len(sample["image"]) not in (1, 3):
            raise UserError(f"{self.what}: images of {len(sample['image'])} channels; measures take 1 or 3")
        return np.asarray(to_image(sample["image"]).convert("RGB"))
