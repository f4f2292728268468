"""Data sets that are downloaded as a folder of images, some with list files: LSUN, CelebA-HQ, FFHQ, Places."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Literal

from ldm.data.annotated import Annotation
from ldm.data.files import first_of, read_list, require
from ldm.data.listing import Listing, NoSuchName
from ldm.data.reading import Split
from ldm.data.sources.annotated_folder import RecordList
from ldm.data.sources.arrays import ARRAYS
from ldm.data.transforms import Crop, Size
from ldm.errors import UserError
from ldm.ranges import share
from ldm.system.image_files import counted

log = logging.getLogger(__name__)
Part = Literal["train", "validation"]
LSUN_LISTS = {"churches": "church_outdoor", "bedrooms": "bedrooms", "cats": "cat"}  # as the paper's authors call them
PLACES = {
    "train": ("data_large", "data_large_standard", "data_256", "data_256_standard", "train"),
    "validation": ("val_large", "val_256", "val"),
}


class ListedImages(RecordList):
    """Images below a folder that are listed in a text file, one relative path per line; without one, all of them, split by hash.

    Both images and .npy files count (CelebA-HQ comes as 1x3x1024x1024 uint8). A list of plain names also matches images in
    subfolders if names are unique (FFHQ's 00000/00000.png, LSUN's export). Missing and repeated names are skipped and listed in
    `broken`.

    Args:
        root: folder of the images; None if the list has paths, absolute or relative to the working directory.
        names: the list; None for every image below `root`.
        size, resize, crop, flip: see `ldm.data.annotated.Annotated`.
        split: without a list, "all", or "train" / "validation" by a hash of the file's name. With a list it has no effect.
        held_out: share of the files in "validation", without a list.

    Raises:
        MissingFile: the folder or the list is missing.
        UserError: no valid image, or neither folder nor list.
    """

    def __init__(
        self,
        root: str | None,
        size: Size,
        names: str | None = None,
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
        split: Split = "all",
        held_out: float = 0.05,
    ) -> None:
        share(held_out=held_out)
        super().__init__(f"images in {names if root is None else root!r}", [], size, resize, crop, flip)
        if root is None and names is None:
            raise UserError("needs root, the folder of the images, or names, a list of their paths")
        self.root = Path(root or "")
        find = existing_file if root is None else self._find_in_folder()
        if names is None:
            files = sorted(self.files)
        else:
            files, split = self._read_list(Path(names), find), "all"
        self.records = [Annotation(name, self.root / name) for name in files]
        self.choose(split, held_out)

    def _find_in_folder(self) -> Callable[[str], str]:
        """List the folder; returns the function that finds a listed name in it."""
        listing = Listing(require(self.root, "image folder"), self.broken)
        self.files = {*listing.pictures, *listing.ending(ARRAYS)}
        self.others = listing.others(read=self.files)
        if not self.files:
            hint = ": data.mdb is a database: use ldm.data.LSUNDatabase, or LSUN's data.py export"
            others = f", but {counted(self.others)}" if self.others else ""
            raise UserError(f"{self.what}: no image in it" + (hint if any(self.root.rglob("data.mdb")) else others))
        by_name = {name.rpartition("/")[2]: name for name in self.files}
        counts = Counter(name.rpartition("/")[2] for name in self.files)

        def find(line: str) -> str:
            name = PurePosixPath(line).as_posix()
            if name in self.files:
                return name
            if counts[name] == 1:
                return by_name[name]
            raise NoSuchName(f"no {line} in {self.root}{listing.hint(name)}")

        return find

    def _read_list(self, path: Path, find: Callable[[str], str]) -> list[str]:
        """The files that a list names, each once, in its order."""
        found: dict[str, None] = {}
        for number, line in read_list(path):
            try:
                name = find(line)
                if name in found:
                    raise NoSuchName(f"{line} a second time")
                found[name] = None
            except NoSuchName as error:
                self.broken.append(f"{path}:{number}: {error}")
        return list(found)


def existing_file(name: str) -> str:
    """The name of a file.

    Raises:
        NoSuchName: there is none.
    """
    if not Path(name).is_file():
        raise NoSuchName(f"no file {name}")
    return name


def split_list(root: str, names: str) -> str | None:
    """The list file inside a folder of images or beside it; None if there is neither."""
    for folder in (require(Path(root), "image folder"), Path(root).parent):
        if (folder / names).is_file():
            return str(folder / names)
    log.info("no %s in %s or beside it: the split is by a hash of the names", names, root)
    return None


class LSUN(ListedImages):
    """LSUN churches (outdoor), bedrooms or cats: a folder of images, with `church_outdoor_{train,val}.txt` and so on beside it.

    The authors' lists are used if they exist in `root` or beside it; else every image is, split by hash. The paper mirrors half of the
    training images. Arguments and errors are those of `ListedImages`.

    Args:
        category: selects the lists.
        held_out: share of the files in "validation", without lists.
    """

    def __init__(
        self,
        root: str,
        category: Literal["churches", "bedrooms", "cats"],
        size: Size,
        split: Part = "train",
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
        held_out: float = 0.01,
    ) -> None:
        names = split_list(root, f"{LSUN_LISTS[category]}_{'train' if split == 'train' else 'val'}.txt")
        super().__init__(root, size, names, resize, crop, flip, split, held_out)


class CelebAHQ(ListedImages):
    """CelebA-HQ, as .npy files (1x3x1024x1024 uint8) or as images; `celebahq{train,validation}.txt` in the folder or beside it.

    Without the lists (25000 and 5000 names in the paper's code), a hash of the names splits. Arguments and errors are those of
    `ListedImages`.
    """

    lists = "celebahq"

    def __init__(
        self,
        root: str,
        size: Size,
        split: Part = "train",
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
        held_out: float = 1 / 6,
    ) -> None:
        super().__init__(root, size, split_list(root, f"{self.lists}{split}.txt"), resize, crop, flip, split, held_out)


class FFHQ(CelebAHQ):
    """FFHQ, flat (00000.png) or nested (00000/00000.png); `ffhq{train,validation}.txt` in the folder or beside it.

    The lists of the paper's code have 60000 and 10000 names; without them, set `held_out` to 0.1429 for their share.
    """

    lists = "ffhq"


class Places(ListedImages):
    """Images of Places365: `data_large/a/airfield/*.jpg` and `val_large/*.jpg`, as the archives unpack, or their `_256`.

    `train/` and `val/` (the "easy format") are supported as well. Without any of these folders every image is used, split by hash.
    Arguments and errors are those of `ListedImages`.

    Args:
        held_out: share of the files in "validation", if there are no folders for both.
    """

    def __init__(
        self,
        root: str,
        size: Size,
        split: Part = "train",
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
        held_out: float = 0.001,
    ) -> None:
        folder = require(Path(root), "Places")
        if not any((folder / name).is_dir() for names in PLACES.values() for name in names):
            super().__init__(root, size, None, resize, crop, flip, split, held_out)
        else:
            super().__init__(str(first_of(folder, PLACES[split], f"{split} images of Places")), size, None, resize, crop, flip)
