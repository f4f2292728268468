"""Sets of images in one .npz: the layout of ADM's evaluation script."""

import zipfile
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ldm.errors import MissingFile, UserError
from ldm.evaluation.images import EvaluationSet
from ldm.system.files import read_json


class NpzSet(EvaluationSet):
    """An .npz with `arr_0`, `(N, H, W, 3)` uint8, and optionally labels in `arr_1`.

    An uncompressed file (np.savez) is read image by image, without loading all of it. A file of the same name with the suffix .json
    may hold the settings of the samples.

    Raises:
        MissingFile: no such file.
        UserError: another layout.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise MissingFile(f"{path}: no such .npz of images")
        self.path, self.what, self.format = path, f"file {path}", "npz, uint8"
        try:
            with np.load(path, allow_pickle=False) as stored:
                members = set(stored.files)
                labels = stored["arr_1"] if "arr_1" in members else None
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: not a complete .npz ({error})") from error
        if "arr_0" not in members:
            raise UserError(f"{path}: has no arr_0 (uint8, N x H x W x 3); it has {', '.join(sorted(members)) or 'nothing'}")
        try:
            array = self.array
        except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: its arr_0 cannot be read ({error})") from error
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3) or not len(array):
            raise UserError(f"{path}: arr_0 is {array.dtype} {array.shape}, expected uint8 N x H x W x 3")
        self.names = [f"{i:05d}" for i in range(len(array))]
        self.settings = [None] * len(array)
        if (beside := path.with_suffix(".json")).is_file():
            settings = read_settings(beside)
            labelled = labels is not None and labels.shape == (len(array),)
            self.settings = [{**settings, "label": int(one)} for one in labels] if labelled else [settings] * len(array)  # type: ignore[union-attr]

    @cached_property
    def array(self) -> np.ndarray:
        """The images, opened by each process itself."""
        return stored_array(self.path, "arr_0")

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "array"}

    def __getitem__(self, index: int) -> np.ndarray | str:
        image = np.array(self.array[index])
        return image.repeat(3, axis=2) if image.shape[2] == 1 else image


def read_settings(path: Path) -> dict[str, Any]:
    """Settings of samples from JSON.

    Raises:
        UserError: another file.
    """
    settings = read_json(path)
    if not isinstance(settings, dict):
        raise UserError(f"{path}: expected an object with the settings of {path.stem}.npz")
    return settings


def stored_array(path: Path, member: str) -> np.ndarray:
    """An array of an .npz, memory-mapped if it is not compressed (`np.load` maps no .npz)."""
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
