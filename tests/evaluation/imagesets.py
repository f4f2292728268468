"""Small sets of images for the tests of measures."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ldm.cli.pictures import write_png
from ldm.evaluation.extractors import Demo
from ldm.evaluation.small_extractor import SmallExtractor
from ldm.system.weights import save_weights

SETTINGS = {"model": "a", "sha256": "ab" * 32, "step": 7, "seed": 3, "sampler": "ddim", "steps": 25, "eta": 0.0, "scale": 1.5}


def arrays(n: int, seed: int = 0, size: int = 16, wide: float = 60.0) -> np.ndarray:
    """`(n, size, size, 3)` uint8: soft blotches."""
    g = torch.Generator().manual_seed(seed)
    x = torch.nn.functional.interpolate(torch.randn(n, 3, 4, 4, generator=g), size=size, mode="bicubic")
    return (128 + wide * x).clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()


def folder(path: Path, images: np.ndarray, **changes: object) -> Path:
    """PNGs as the sampling scripts write them, or, with settings=None, as a user's."""
    path.mkdir(parents=True)
    for i, image in enumerate(images):
        settings = None if changes.get("settings", 0) is None else {**SETTINGS, "number": i, "label": i % 4, **changes}
        write_png(path / f"{i:05d}.png", Image.fromarray(image), settings)
    return path


def tiny_demo(seed: int = 0) -> Demo:
    """The demo extractor's network with random weights."""
    torch.manual_seed(seed)
    return Demo(SmallExtractor(4, width=8))


def tiny_file(path: Path) -> Path:
    """Its weights in a file, as training leaves them."""
    save_weights(path, tiny_demo().net.state_dict(), {})
    return path
