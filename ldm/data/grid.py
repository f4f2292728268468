"""Pictures side by side in one."""

from pathlib import Path

from PIL import Image
from torch import Tensor

from ldm.data.images import to_image
from ldm.system.files import save_png


def grid_of(images: Tensor, columns: int = 8) -> Image.Image:
    """Images `(B, C, H, W)` in [-1, 1] as one picture, `columns` in a row."""
    from torchvision.utils import make_grid  # here, for it imports all of torchvision

    return to_image(make_grid(images.float().cpu().clamp(-1, 1), nrow=columns, padding=2, pad_value=1.0))


def save_grid(images: Tensor, path: Path, columns: int = 8) -> None:
    """`grid_of` as a PNG, written atomically."""
    save_png(path, grid_of(images, columns))
