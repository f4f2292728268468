"""A numbered set of images in a folder: paths, finished images, and common settings.

<folder>/set.json            count and settings, written before the first image
<folder>/00000.png ...       up to 1000 images, written atomically: one that exists is finished
<folder>/01000/01234.png     for more: 1000 per subfolder, which is named after its first image
<folder>/samples_<n>x<h>x<w>x<c>.npz   all images as one array, in the layout of ADM's evaluation script
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
from ldm.system.files import clear_remains, write_atomically, write_text
from ldm.system.image_files import open_image

NAME = "set.json"
PER_FOLDER = 1000  # entries that every file system and file browser can handle


@dataclass
class ImageSet:
    """A numbered set of images, finished or not.

    Attributes:
        folder: its folder.
        count: number of images when finished; they are numbered from 0.
        settings: settings that the images depend on, JSON values; images sampled with others do not belong to the set.
        made: device, batch size and the like of each command that sampled part of it, which affect images by rounding only.
    """

    folder: Path
    count: int
    settings: dict[str, Any]
    made: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> "ImageSet":
        """Read the set in a folder.

        Raises:
            MissingFile: there is none.
            UserError: set.json is damaged.
        """
        path = folder / NAME
        if not path.is_file():
            raise MissingFile(f"{folder}: no {NAME} in it; expected a folder written by scripts/sample.py or a similar script")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(folder, int(found["count"]), dict(found["settings"]), list(found["made"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not a description of a set ({error!r})") from error

    def write(self) -> None:
        """Write set.json."""
        content = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_text(self.folder / NAME, json.dumps(content, indent=1) + "\n")

    def path(self, number: int) -> Path:
        """Path of an image."""
        digits = max(5, len(str(self.count - 1)))
        if self.count <= PER_FOLDER:
            return self.folder / f"{number:0{digits}d}.png"
        return self.folder / f"{number // PER_FOLDER * PER_FOLDER:0{digits}d}" / f"{number:0{digits}d}.png"

    def there(self) -> set[int]:
        """Numbers of the finished images."""
        found = set()
        for folder in sorted({self.path(first).parent for first in range(0, self.count, PER_FOLDER)}):
            for path in folder.glob("*.png") if folder.is_dir() else ():
                if path.stem.isdecimal() and int(path.stem) < self.count and path == self.path(int(path.stem)):
                    found.add(int(path.stem))
        return found

    def paths(self) -> list[Path]:
        """Paths of all images in the order of their numbers.

        Raises:
            UserError: the set is not finished.
        """
        if missing := sorted(set(range(self.count)) - self.there()):
            raise UserError(f"{self.folder}: {len(missing)} of {self.count} images are missing, the first is {missing[0]}")
        return [self.path(number) for number in range(self.count)]

    def differences(self, other: "ImageSet") -> list[str]:
        """Descriptions of the settings in which another set differs."""
        ours, theirs = {"n": self.count, **self.settings}, {"n": other.count, **other.settings}
        keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
        return [changed(key, ours.get(key), theirs.get(key)) for key in keys]

    def clear_remains(self) -> None:
        """Remove partial files of killed processes; only for a process that holds the folder's lock."""
        for folder in {self.folder, *(self.path(first).parent for first in range(0, self.count, PER_FOLDER))}:
            clear_remains(folder, owned=True)

    def remove(self) -> None:
        """Remove the images and the files derived from them; set.json stays until it is replaced."""
        for number in self.there():
            self.path(number).unlink()
            self.path(number).with_suffix(".npy").unlink(missing_ok=True)
        for folder in {self.path(first).parent for first in range(0, self.count, PER_FOLDER)} - {self.folder}:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        for path in [self.folder / "grid.png", *self.folder.glob("samples_*x*.npz")]:
            path.unlink(missing_ok=True)


def changed(key: str, old: Any, new: Any) -> str:
    """Description of a setting that differs; hashes are not printed."""
    if re.fullmatch("[0-9a-f]{64}", f"{old}") or re.fullmatch("[0-9a-f]{64}", f"{new}"):
        return f"other {key}"
    return f"{key} was {old} and is {new}"


def write_adm(images: ImageSet, labels: Sequence[int] | None = None) -> Path:
    """Write all images of a finished set as `samples_<n>x<h>x<w>x<c>.npz`, atomically, with the memory of one image.

    `arr_0` is uint8 `(N, H, W, C)`, `arr_1` the labels, int64 `(N,)`: the format of ADM's evaluation script
    (`guided-diffusion/evaluations`) and of the released LDM scripts.

    Args:
        images: a set of images of one size.
        labels: class indices, if the model has classes.

    Raises:
        UserError: the set is not finished, or an image cannot be read.
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

    write_atomically(target, write)
    return target


def each(paths: Sequence[Path], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Pixels of one image after the other.

    Raises:
        UserError: one cannot be read, or has another size.
    """
    for path in paths:
        pixels = read_pixels(path)
        if pixels.shape != shape:
            raise UserError(f"{path} is {'x'.join(map(str, pixels.shape))}, expected {'x'.join(map(str, shape))} as the images before it")
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
        raise UserError(f"{path}: cannot be read ({error}); remove it and run the same command again") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels
