"""A numbered set of pictures in a folder: where each lies, which are there, and the settings that all of them share.

<folder>/set.json            count and settings, written before the first picture
<folder>/00000.png ...       up to 1000 pictures; they are whole or not there, so one that is there is finished
<folder>/01000/01234.png     of more: 1000 to a subfolder, which has the name of its first picture
<folder>/samples_<n>x<h>x<w>x<c>.npz   all of them as one array, in the layout of ADM's evaluation script
"""

import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ldm.errors import MissingFile, UserError
from ldm.system.files import clear_remains, write_text, write_whole
from ldm.system.image_files import open_image

NAME = "set.json"
PER_FOLDER = 1000  # entries that every file system and every file browser bear


@dataclass
class ImageSet:
    """A set, finished or not.

    Attributes:
        folder: it lies in.
        count: of pictures when it is finished; their numbers begin with 0.
        settings: that the pictures depend on, JSON values; pictures made with others do not belong to the set.
        made: how each run that worked on it did so: what the pictures depend on by rounding alone.
    """

    folder: Path
    count: int
    settings: dict[str, Any]
    made: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> "ImageSet":
        """The set in a folder.

        Raises:
            MissingFile: there is none.
            UserError: set.json is damaged.
        """
        path = folder / NAME
        if not path.is_file():
            raise MissingFile(f"{folder}: no {NAME} in it; expected a folder that scripts/sample.py or a like script has written")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(folder, int(found["count"]), dict(found["settings"]), list(found["made"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not a description of a set ({error!r})") from error

    def write(self) -> None:
        """Say in the folder what it holds."""
        content = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_text(self.folder / NAME, json.dumps(content, indent=1) + "\n")

    def path(self, number: int) -> Path:
        """Where a picture lies."""
        digits = max(5, len(str(self.count - 1)))
        if self.count <= PER_FOLDER:
            return self.folder / f"{number:0{digits}d}.png"
        return self.folder / f"{number // PER_FOLDER * PER_FOLDER:0{digits}d}" / f"{number:0{digits}d}.png"

    def there(self) -> set[int]:
        """Numbers of the finished pictures."""
        found = set()
        for folder in sorted({self.path(first).parent for first in range(0, self.count, PER_FOLDER)}):
            for path in folder.glob("*.png") if folder.is_dir() else ():
                if path.stem.isdecimal() and int(path.stem) < self.count and path == self.path(int(path.stem)):
                    found.add(int(path.stem))
        return found

    def paths(self) -> list[Path]:
        """All pictures in the order of their numbers.

        Raises:
            UserError: the set is not finished.
        """
        if missing := sorted(set(range(self.count)) - self.there()):
            raise UserError(f"{self.folder}: {len(missing)} of {self.count} pictures are not made yet, the first is {missing[0]}")
        return [self.path(number) for number in range(self.count)]

    def differences(self, other: "ImageSet") -> list[str]:
        """What another set would change, in words."""
        ours, theirs = {"n": self.count, **self.settings}, {"n": other.count, **other.settings}
        keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
        return [changed(key, ours.get(key), theirs.get(key)) for key in keys]

    def clear_remains(self) -> None:
        """Remove what killed processes left half-written; for one that has the folder to itself."""
        for folder in {self.folder, *(self.path(first).parent for first in range(0, self.count, PER_FOLDER))}:
            clear_remains(folder, owned=True)

    def remove(self) -> None:
        """Remove the pictures and what was made of them; the settings stay until others replace them."""
        for number in self.there():
            self.path(number).unlink()
            self.path(number).with_suffix(".npy").unlink(missing_ok=True)
        for folder in {self.path(first).parent for first in range(0, self.count, PER_FOLDER)} - {self.folder}:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        for path in [self.folder / "grid.png", *self.folder.glob("samples_*x*.npz")]:
            path.unlink(missing_ok=True)


def changed(key: str, old: Any, new: Any) -> str:
    """A setting that differs, in words; of hashes nobody reads the digits."""
    if re.fullmatch("[0-9a-f]{64}", f"{old}") or re.fullmatch("[0-9a-f]{64}", f"{new}"):
        return f"other {key}"
    return f"{key} was {old} and is {new}"


def write_adm(images: ImageSet, labels: Sequence[int] | None = None) -> Path:
    """All pictures of a finished set as `samples_<n>x<h>x<w>x<c>.npz`, whole or not at all, in the memory of one picture.

    `arr_0` is uint8 `(N, H, W, C)`, `arr_1` the labels, int64 `(N,)`: the file that ADM's evaluation script takes
    (`guided-diffusion/evaluations`), which the released LDM scripts write too.

    Args:
        images: of one size.
        labels: of classes, if the model has them.

    Raises:
        UserError: the set is not finished, or a picture cannot be read.
    """
    paths = images.paths()
    shape = read_pixels(paths[0]).shape
    target = images.folder / f"samples_{'x'.join(map(str, (len(paths), *shape)))}.npz"

    def write(beside: Path) -> None:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("arr_0.npy", "w", force_zip64=True) as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), *shape)}
                np.lib.format.write_array_header_1_0(file, header)
                for pixels in each(paths, shape):
                    file.write(pixels.tobytes())
            if labels is not None:
                with archive.open("arr_1.npy", "w") as file:
                    np.lib.format.write_array(file, np.asarray(labels, dtype=np.int64))

    write_whole(target, write)
    return target


def each(paths: Sequence[Path], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Pixels of one picture after the other.

    Raises:
        UserError: one cannot be read, or has another size.
    """
    for path in paths:
        pixels = read_pixels(path)
        if pixels.shape != shape:
            raise UserError(f"{path}: {'x'.join(map(str, pixels.shape))}, the pictures before it are {'x'.join(map(str, shape))}")
        yield pixels


def read_pixels(path: Path) -> np.ndarray:
    """uint8 `(H, W, C)` of a PNG with one or three channels.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open_image(path, ["PNG"]) as opened:
            pixels = np.asarray(opened)
    except Exception as error:  # Pillow's plugins raise many kinds
        raise UserError(f"{path}: cannot be read ({error}); remove it, and the same command makes it again") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels
