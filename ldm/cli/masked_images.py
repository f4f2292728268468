"""Images with masks: pairs of files, or images with generated masks. They are read when needed: a folder may be larger than memory."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from ldm.cli.pictures import file_note, read_mask, read_picture
from ldm.data.masks import Kind
from ldm.data.masks import mask as generate
from ldm.errors import MissingFile, UserError
from ldm.rng import generator
from ldm.system.image_files import is_picture

SUFFIX = "_mask"  # of a mask's name
HALF_WHITE = 128  # of 255: from here on a pixel is inside the mask


@dataclass
class MaskedImage:
    """An image and its mask, `(H, W)` bool; `note` names the files and their content."""

    name: str
    image: Image.Image
    mask: np.ndarray
    note: dict[str, str]


Read = Callable[[], MaskedImage]


def pasted(given: MaskedImage, sampled: Image.Image) -> Image.Image:
    """The sampled pixels inside the mask, the given ones outside, at the given size."""
    known, new = np.asarray(given.image), np.asarray(sampled)[: given.image.height, : given.image.width]
    mask = given.mask if known.ndim == 2 else given.mask[..., None]
    return Image.fromarray(np.where(mask, new, known))


def generated_masks(folder: Path, channels: int, kind: Kind, seed: int) -> list[Read]:
    """All images of a folder, masks left out, with generated masks; a mask depends on the seed and the name of the image.

    Raises:
        MissingFile: no folder, or no images in it.
        UserError: two images of one name.
    """
    images = [path for path in images_in(folder) if not path.stem.endswith(SUFFIX)]
    if not images:
        raise MissingFile(f"--indir {folder}: nothing but masks in it; expected images")
    return [partial(with_generated_mask, path, channels, kind, seed) for path in images]


def with_generated_mask(path: Path, channels: int, kind: Kind, seed: int) -> MaskedImage:
    """One image and a generated mask.

    Raises:
        UserError: an image that is too small for a mask.
    """
    picture = read_picture(path, channels)
    try:
        mask = generate(kind, (picture.height, picture.width), generator(seed, "mask", path.name))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    return MaskedImage(path.stem, picture, mask[0].numpy() > 0, file_note("image", path))


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder, sorted.

    Raises:
        MissingFile: no folder, or none in it.
        UserError: two that differ in their suffix alone.
    """
    if not folder.is_dir():
        raise MissingFile(f"--indir {folder}: no such folder")
    files = sorted(p for p in folder.iterdir() if p.name[0] != "." and p.is_file() and is_picture(p))
    if not files:
        raise MissingFile(f"--indir {folder}: no images in it; expected pairs x.png and x_mask.png")
    for one, other in pairwise(sorted(files, key=lambda p: p.stem)):
        if one.stem == other.stem:
            raise UserError(f"--indir {folder}: {one.name} and {other.name} share a name apart from their ending")
    return files


def masks_of_folder(folder: Path, channels: int) -> list[Read]:
    """All images of a folder with their masks.

    Raises:
        MissingFile: no folder, no pair, an image without a mask or a mask without an image.
        UserError: two images of one name.
    """
    files = images_in(folder)
    masks = {p.stem.removesuffix(SUFFIX): p for p in files if p.stem.endswith(SUFFIX)}
    images = {p.stem: p for p in files if not p.stem.endswith(SUFFIX)}
    if single := sorted(images.keys() ^ masks.keys()):
        name = single[0]
        missing = f"{name}{SUFFIX}.png is missing" if name in images else f"{masks[name].name} fits no image: {name}.png is missing"
        raise MissingFile(f"--indir {folder}: {missing}")
    return [partial(with_mask, images[name], masks[name], channels) for name in images]


def with_mask(path: Path, mask_path: Path, channels: int) -> MaskedImage:
    """One image and its mask.

    Raises:
        UserError: sizes that differ, or an empty mask.
    """
    picture, white = read_picture(path, channels), read_mask(mask_path)
    if white.shape != (picture.height, picture.width):
        raise UserError(f"{mask_path} is {white.shape[1]}x{white.shape[0]}, but {path.name} is {picture.width}x{picture.height}")
    mask = white >= HALF_WHITE
    if not mask.any():
        raise UserError(f"{mask_path}: nothing in it is white (its brightest pixel is {white.max()} of 255), so there is nothing to fill")
    return MaskedImage(path.stem, picture, mask, file_note("image", path) | file_note("mask", mask_path))
