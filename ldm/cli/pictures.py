"""Pictures that scripts read and write."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ldm.data.images import UnreadableImage, read_image, to_image, visible
from ldm.data.maps import brightness
from ldm.data.transforms import middle
from ldm.errors import MissingFile, UserError
from ldm.system.files import file_sha256, save_png, write_atomically
from ldm.system.image_files import open_image


def read_picture(path: str | Path, channels: int = 3) -> Image.Image:
    """Any image file, as `ldm.data.images.read_image` reads it.

    Raises:
        MissingFile: no such file.
        UserError: it cannot be read.
    """
    if not Path(path).is_file():
        raise MissingFile(f"{path}: no such image")
    if channels not in (1, 3, 4):
        raise UserError(f"{path}: the model takes {channels} channels; image files are read with 1, 3 or 4")
    try:
        return read_image(Path(path), channels)
    except UnreadableImage as error:
        raise UserError(f"{path}: {error}") from error


def read_mask(path: Path) -> np.ndarray:
    """A mask file as its brightness, `(H, W)` uint8.

    Raises:
        MissingFile: no such file.
        UserError: it cannot be read, or has transparent pixels, which could mean either.
    """
    if not path.is_file():
        raise MissingFile(f"{path}: no such image")
    try:
        return brightness(path)
    except UnreadableImage as error:
        raise UserError(f"{path}: {error}") from error


def file_note(key: str, path: str | Path) -> dict[str, str]:
    """What a PNG says about an input file: its name and hash, because the content may change."""
    return {key: str(path), f"{key}_sha256": file_sha256(Path(path))}


def cover(image: Image.Image, height: int, width: int) -> Image.Image:
    """Scale an image until it covers a size (antialiased bicubic), and cut its centre."""
    scale = max(height / image.height, width / image.width)
    image = image.resize((max(width, round(image.width * scale)), max(height, round(image.height * scale))), Image.Resampling.BICUBIC)
    left, top = middle(image.width, width), middle(image.height, height)
    return image.crop((left, top, left + width, top + height))


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """Enlarge `(B, C, H, W)` to the right and below until `multiple` divides its sides; cut its original size out again after use.

    The image is mirrored, or repeats its border where it is too small for that.
    """
    down, right = (-x.shape[2]) % multiple, (-x.shape[3]) % multiple
    if not (down or right):
        return x
    return F.pad(x, (0, right, 0, down), mode="reflect" if down < x.shape[2] and right < x.shape[3] else "replicate")


def write_png(path: Path, image: Tensor | Image.Image, settings: dict[str, Any] | None, like: Image.Image | None = None) -> None:
    """Write a PNG with its settings in the text chunk "ldm" and the colour profile of `like`, atomically.

    An image `(C, H, W)` with other than 1 or 3 channels is also written as `.npy` beside it, in [-1, 1].
    """
    info = PngInfo()
    if settings is not None:
        info.add_text("ldm", json.dumps(settings))
    picture = to_image(image) if isinstance(image, Tensor) else image
    if isinstance(image, Tensor) and len(image) not in (1, 3):
        write_atomically(path.with_suffix(".npy"), lambda beside: _save_array(beside, image))
    save_png(path, picture, pnginfo=info, icc_profile=colours(like))


def colours(picture: Image.Image | None) -> bytes | None:
    """The ICC profile of a picture; None if it is for another mode, as of a CMYK file."""
    profile = picture.info.get("icc_profile") if picture is not None else None
    return profile if profile and picture and profile[16:20] == {"L": b"GRAY", "RGB": b"RGB "}.get(picture.mode) else None


def _save_array(path: Path, x: Tensor) -> None:
    with path.open("wb") as file:  # given a path, NumPy would add a suffix
        np.save(file, x.float().cpu().numpy())


def settings_of(path: Path) -> Any:
    """The settings stored in an image; None if there are none."""
    try:
        with open_image(path, ["PNG"]) as opened:
            return json.loads(opened.text["ldm"])  # type: ignore[attr-defined]
    except Exception:  # not a PNG, incomplete, or not of this project
        return None


def beside(left: Image.Image, right: Tensor) -> Tensor:
    """A picture to the left of what is visible of an image `(C, H, W)` of the same size -> `(1 or 3, H, 2W + 2)`, in [-1, 1]."""
    right = visible(right)
    mode = "L" if len(right) == 1 else "RGB"
    array = np.asarray(left.convert(mode), dtype=np.float32).reshape(left.height, left.width, -1) / 127.5 - 1.0
    picture = torch.from_numpy(array).movedim(2, 0)
    return torch.cat([picture, torch.ones(len(right), right.shape[1], 2), right.cpu()], dim=2)
