"""Handwritten digits by class: are they read as asked, real, and not copied?"""

from pathlib import Path
from typing import Any

import torch

from demos import digits_measures as measures
from demos.run import sample
from ldm.checkpoint.load import LoadedModel
from ldm.data.grid import save_grid
from ldm.data.sources.digits import load_digits

Rows = list[tuple[str, str, str]]


def measure_digits(loaded: LoadedModel, outdir: Path, count: int) -> tuple[dict[str, Any], Rows, dict[str, Path]]:
    """Sample and measure; results, rows for the page, pictures."""
    labels = torch.arange(count) % 10
    images = sample(loaded, {"label": labels}, count, 32, seed=0)
    results: dict[str, Any] = {"samples": count, **measures.measure(images, labels)}
    train_images, _, _ = load_digits("train", 32)
    _, index = measures.nearest(images[:80], train_images)
    save_grid(images[:80], outdir / "samples.png", columns=10)
    pairs = [row for first in range(0, 40, 10) for row in (images[first : first + 10], train_images[index[first : first + 10]])]
    save_grid(torch.cat(pairs), outdir / "nearest.png", columns=10)
    rows = [
        ("accuracy", f"{results['accuracy']:.1%}", f"{count} samples read as the asked digit by a classifier that saw real digits only"),
        ("accuracy_real", f"{results['accuracy_real']:.1%}", "the same classifier on 360 held-out real digits"),
        ("near_real_share", f"{results['near_real_share']:.1%}", "samples as near to a training digit as 95 % of the held-out ones are"),
        (
            "nearest_distance",
            f"{results['nearest_distance']:.2f}",
            f"to the nearest training digit; held-out digits: {results['nearest_distance_real']:.2f}",
        ),
        (
            "diversity",
            f"{results['diversity']:.2f}",
            f"distance between two samples of a class; held-out digits: {results['diversity_real']:.2f}",
        ),
    ]
    pictures = {
        "Samples, a column per digit": outdir / "samples.png",
        "Samples (odd rows) above their nearest training digit": outdir / "nearest.png",
    }
    return results, rows, pictures
