"""LSUN as downloaded: one LMDB database per category and split, whose values are image files."""

import io
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ldm.data.annotated import Annotated, Annotation, Picture
from ldm.data.files import require
from ldm.data.images import read_image
from ldm.data.transforms import Crop, Size, UnreadableImage
from ldm.errors import MissingFile, UserError
from ldm.system.image_files import open_image

HANDLES: dict[Path, tuple[int, Any]] = {}  # by folder: the process that opened it, and its handle


class LSUNDatabase(Annotated):
    """Images of an LSUN database, `church_outdoor_train_lmdb` and the like, in the order of its keys.

    The paper's lists refer to files that the authors exported under other names; LSUN's split is that of its databases.

    Args:
        root: folder of the database, or the folder that contains `<category>_<split>_lmdb`.
        split: "train" or "validation" (LSUN's val: 300 images), where `root` holds several.
        category: LSUN's name, as "church_outdoor" or "bedroom", where `root` holds several.
        size, resize, crop, flip: see `ldm.data.annotated.Annotated`.

    Raises:
        MissingFile: no such folder or database, or the package lmdb is not installed.
        UserError: an empty, damaged or incompletely copied database.
    """

    def __init__(
        self,
        root: str,
        size: Size,
        split: Literal["train", "validation"] = "train",
        category: str | None = None,
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
    ) -> None:
        super().__init__(f"images in {root!r}", [], size, resize, crop, flip)
        folder = require(Path(root), "folder of an LSUN database")
        if not (folder / "data.mdb").is_file():
            folder = folder / f"{category}_{'train' if split == 'train' else 'val'}_lmdb"
        if not (folder / "data.mdb").is_file():
            raise MissingFile(f"LSUNDatabase: no {folder / 'data.mdb'}: expected LSUN's unpacked zip; `category` is its name for the scene")
        self.folder = folder
        opened = database(folder)
        try:
            with opened.begin() as entries:
                self.keys = np.array([bytes(key) for key in entries.cursor().iternext(keys=True, values=False)])
        except Exception as error:  # lmdb.Error, of an optional package
            raise UserError(f"{self.what}: the database {folder} is damaged: {error}") from error
        if not len(self.keys):
            raise UserError(f"{self.what}: the database {folder} is empty")
        self.report_found(len(self.keys), len(self.keys))

    def __len__(self) -> int:
        return len(self.keys)

    def record(self, index: int) -> Annotation:
        name = self.keys[index].decode("ascii", "replace")
        return Annotation(name, self.folder / name)

    def stored(self, record: Annotation) -> io.BytesIO:
        """The image file of a record.

        Raises:
            UnreadableImage: a damaged page.
        """
        opened = database(self.folder)
        try:
            with opened.begin() as entries:
                return io.BytesIO(entries.get(record.name.encode("ascii", "replace")) or b"")
        except Exception as error:  # lmdb.Error, of an optional package
            raise UnreadableImage(f"cannot be read ({error})") from error

    def picture(self, record: Annotation) -> Picture:
        return read_image(self.stored(record), self.channels)

    def original_size(self, index: int) -> tuple[int, int] | None:
        try:
            with open_image(self.stored(self.record(index))) as image:
                return image.size
        except (OSError, ValueError, Image.DecompressionBombError):  # counted when it is read
            return None


def database(folder: Path) -> Any:
    """The open database of this process: LMDB's handles must not cross a fork, and one process must not open a folder twice.

    Raises:
        MissingFile: the package is not installed.
        UserError: not a database.
    """
    process, handle = HANDLES.get(folder, (0, None))
    if process != os.getpid():
        if handle is not None:
            handle.close()  # the parent's
        HANDLES[folder] = (os.getpid(), open_database(folder))
    return HANDLES[folder][1]


def open_database(folder: Path) -> Any:
    """An LMDB folder, to read from; raises as `database` does."""
    try:
        import lmdb
    except ImportError as error:
        raise MissingFile("LSUNDatabase: the package lmdb is not installed: pip install lmdb") from error
    try:
        handle = lmdb.open(str(folder), readonly=True, lock=False, readahead=False, max_readers=512)
        size, expected = (folder / "data.mdb").stat().st_size, (handle.info()["last_pgno"] + 1) * handle.stat()["psize"]
    except lmdb.Error as error:
        raise UserError(f"LSUNDatabase: {folder} is not a database: {error}") from error
    if size < expected:  # reading beyond the end would kill the process without a message
        handle.close()
        raise UserError(f"LSUNDatabase: {folder / 'data.mdb'} has {size} of {expected} bytes: it was not copied completely")
    return handle
