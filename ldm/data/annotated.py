"""Images with annotations: class, captions, boxes, label map, mask, all cropped consistently."""

import difflib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from PIL import Image

from ldm.data.batch import Sample
from ldm.data.captions import draw_caption
from ldm.data.images import read_deep, read_image, to_tensor
from ldm.data.maps import read_map, read_mask
from ldm.data.reading import Reading
from ldm.data.sources.arrays import is_array, read_array
from ldm.data.transforms import Crop, Size, UnreadableImage, View, pair, view
from ldm.errors import UserError
from ldm.ranges import integer, share, span
from ldm.rng import generator
from ldm.system.image_files import open_image

Give = Literal["label", "caption", "boxes", "segmentation", "mask"]
Picture = Image.Image | np.ndarray
NO_BOXES, NO_LABELS = np.zeros((0, 4)), np.zeros(0, dtype=np.int64)  # shared, because a set may have millions of records
T = TypeVar("T")


@dataclass(frozen=True)
class Annotation:
    """Annotations of one image.

    Attributes:
        name: its id.
        path: its file.
        file: key of the split, if several records share a file; `name` if None.
        captions: captions, of which one is drawn.
        boxes: `(n, 4)` xyxy as fractions of the upright image's width and height.
        box_labels: `(n,)` class indices.
        segmentation, mask: files of the same size as the image.
        origin: the line of the record, "file:line".
        more: other columns by name: numbers, texts, lists of numbers, paths of .npy files.
    """

    name: str
    path: Path
    label: int | None = None
    captions: Sequence[str] = ()
    boxes: np.ndarray = field(default_factory=lambda: NO_BOXES)
    box_labels: np.ndarray = field(default_factory=lambda: NO_LABELS)
    segmentation: Path | None = None
    mask: Path | None = None
    origin: str = ""
    file: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


class Annotated(Reading):
    """Base of data sets with annotated images: subclasses define `__len__` and `record`.

    Args:
        what: description of the set, for messages.
        give: keys of a sample beside `image` and `id`; "boxes" gives `boxes` and `box_labels`.
        size: side of the square crop in pixels, or height and width of another crop.
        resize: the image is first scaled until the largest such crop has a shorter side of this length (of a square: until its own
            shorter side has it); the shorter side of `size` if None.
        crop: position of the crop; "random" changes with the training step.
        flip: probability of a horizontal flip.
        channels: channels of the image: 1 (grey), 3, or 4 with transparency; arrays (.npy, .npz, .tif) may have any number.
        values: see `ldm.data.sources.arrays.read_array`.
        min_box: boxes of which less than this share is inside the crop are dropped.
        depth: bits of grey images; with 16, values of 16-bit files are not rounded to 8 bits. Colours always have 8.
        map_classes: number of classes; label maps with a class out of range are unreadable.

    Raises:
        UserError: a crop larger than the resized image, a depth of 16 with other than one channel, or an unknown key in `give`.
    """

    shuffled_boxes = False  # whether the order of boxes is random
    has_columns = False  # whether any column of a table can be given

    def __init__(
        self,
        what: str,
        give: Sequence[str],
        size: Size,
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
        channels: int = 3,
        values: tuple[float, float] | None = None,
        min_box: float = 0.0,
        map_classes: int | None = None,
        depth: Literal[8, 16] = 8,
    ) -> None:
        integer(resize=resize, channels=channels, map_classes=map_classes)
        share(flip=flip, min_box=min_box)
        span(values=values)
        self.what, self.give, self.size = what, tuple(give), pair(size)
        self.resize = resize or min(self.size)
        self.crop: Crop = crop
        self.depth = depth
        if depth == 16 and channels != 1:
            raise UserError(f"{what}: depth: 16 goes with channels: 1; for 16-bit colours save arrays (.npy) and use ldm.data.ArrayFolder")
        self.flip, self.channels, self.min_box, self.map_classes = flip, channels, min_box, map_classes
        self.values = None if values is None else (float(values[0]), float(values[1]))
        self.broken, self.class_names = [], {}
        self.class_counts = {"segmentation": map_classes} if map_classes else {}
        if self.resize < min(self.size):
            raise UserError(f"{what}: resize {self.resize} is smaller than size {min(self.size)}")
        known = Give.__args__  # type: ignore[attr-defined]
        for key in self.give:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
            if key not in known and (near or not self.has_columns):
                raise UserError(f"{what}: cannot give {key!r} (known: {', '.join(known)})")

    @abstractmethod
    def record(self, index: int) -> Annotation:
        """Annotations of image `index`."""

    def where(self, index: int) -> str:
        record = self.record(index)
        return f"{record.origin}: {record.path}" if record.origin else str(record.path)

    def original_size(self, index: int) -> tuple[int, int] | None:
        path = self.record(index).path
        try:
            if is_array(path, self.channels, self.values):
                return size_of(read_array(path, self.channels, self.values))
            with open_image(path) as opened:
                return opened.size
        except (OSError, ValueError, Image.DecompressionBombError):  # counted when it is read
            return None

    def picture(self, record: Annotation) -> Picture:
        """The stored image.

        Raises:
            UnreadableImage: says why not.
        """
        if is_array(record.path, self.channels, self.values):
            return read_array(record.path, self.channels, self.values)
        return read_deep(record.path) if self.depth == 16 else read_image(record.path, self.channels)

    def view(self, picture: tuple[int, int], random: tuple[float, float], mirrored: bool, growth: float) -> View:
        """The crop of a picture of this width and height, at random shares of the free play; `growth` is random, too.

        Raises:
            UnreadableImage: a picture that is too small or too elongated.
        """
        return view(picture, self.resize, self.size, self.crop, random, mirrored)

    def read(self, index: int, seed: int, place: int) -> Sample:
        record = self.record(index)
        x, y, mirror, growth = torch.rand(4, generator=generator(seed, "augmentation", place, record.name)).tolist()
        picture = self.picture(record)
        crop = self.view(size_of(picture), (x, y), mirror < self.flip, growth)
        sample: Sample = {"image": cut(picture, crop), "id": record.name}
        if "label" in self.give:
            sample["label"] = required(record.label, "label")
        if "caption" in self.give:
            sample["caption"] = draw_caption(record.captions, record.name, seed, place)
        if "boxes" in self.give:
            boxes, kept = crop.boxes(record.boxes, self.min_box)
            order = torch.arange(len(kept))
            if self.shuffled_boxes:
                order = torch.randperm(len(kept), generator=generator(seed, "boxes", place, record.name))
            sample["boxes"] = boxes[order]
            sample["box_labels"] = torch.from_numpy(record.box_labels.astype(np.int64))[kept[order]]
        if "segmentation" in self.give:
            path = required(record.segmentation, "segmentation")
            sample["segmentation"] = crop.labels(read_map(path, size_of(picture), self.map_classes))
        if "mask" in self.give:
            sample["mask"] = crop.labels(read_mask(required(record.mask, "mask"), size_of(picture))).float()[None]
        return sample | {name: column(value, name) for name, value in record.more.items()}


def size_of(picture: Picture) -> tuple[int, int]:
    """Width and height."""
    return picture.size if isinstance(picture, Image.Image) else (picture.shape[1], picture.shape[0])


def cut(picture: Picture, crop: View) -> torch.Tensor:
    """`(C, H, W)` float32 in [-1, 1]."""
    if isinstance(picture, Image.Image):
        return to_tensor(crop.picture(picture))
    return torch.from_numpy(np.ascontiguousarray(crop.array(picture).transpose(2, 0, 1)))


def column(value: Any, name: str) -> Any:
    """Value of a table column in a sample: a number, a text, or a tensor.

    Raises:
        UnreadableImage: a .npy file that cannot be read.
    """
    if isinstance(value, Path):
        try:
            value = np.load(value, allow_pickle=False)
            return torch.from_numpy(value.astype(np.float32 if value.dtype.kind == "f" else np.int64))
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise UnreadableImage(f"{name}: not an array of numbers ({str(error).splitlines()[0]})") from error
    if isinstance(value, list):
        return torch.tensor(value, dtype=torch.int64 if all(isinstance(number, int) for number in value) else torch.float32)
    return value


def required(value: T | None, key: str) -> T:
    """A value that must not be None.

    Raises:
        UnreadableImage: it is None.
    """
    if value is None:
        raise UnreadableImage(f"has no {key}")
    return value
