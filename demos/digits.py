"""Handwritten digits by class: are samples read as the requested digit, realistic, and not copied?

The classifier and the nearest neighbours are of real digits only.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from demos.run import sample
from ldm.checkpoint.load import LoadedModel
from ldm.data.grid import save_grid
from ldm.data.sources.digits import load_digits

Rows = list[tuple[str, str, str]]


def measure_digits(loaded: LoadedModel, outdir: Path, count: int) -> tuple[dict[str, Any], Rows, dict[str, Path]]:
    """Sample and measure; results, rows for the page, pictures."""
    labels = torch.arange(count) % 10
    images = sample(loaded, {"label": labels}, count, 32, seed=0)
    results: dict[str, Any] = {"samples": count, **measure(images, labels)}
    train_images, _, _ = load_digits("train", 32)
    _, index = nearest(images[:80], train_images)
    save_grid(images[:80], outdir / "samples.png", columns=10)
    pairs = [row for first in range(0, 40, 10) for row in (images[first : first + 10], train_images[index[first : first + 10]])]
    save_grid(torch.cat(pairs), outdir / "nearest.png", columns=10)
    rows = [
        (
            "accuracy",
            f"{results['accuracy']:.1%}",
            f"{count} samples read as the requested digit by a classifier that saw real digits only",
        ),
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


def features(images: Tensor) -> Tensor:
    """Pixels `(N, 64)` of digits `(N, 1, H, W)` in [-1, 1] at the scanner's resolution."""
    return F.interpolate(images.float().cpu(), size=(8, 8), mode="area").flatten(1)


class DigitReader:
    """A support vector machine trained on the training digits.

    Args:
        size: height and width of the images to read; training digits are enlarged to it.
    """

    def __init__(self, size: int) -> None:
        from sklearn.svm import SVC

        images, labels, _ = load_digits("train", size)
        self.machine = SVC(C=10.0, gamma="scale").fit(features(images).numpy(), labels.numpy())

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of images `(N, 1, H, W)` read as their label `(N,)`."""
        return float(self.machine.score(features(images).numpy(), labels.cpu().numpy()))


def nearest(images: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean distance in pixel space to, and index of, the nearest of `among`; both `(N,)`."""
    distance = torch.cdist(images.double().cpu().flatten(1), among.double().flatten(1))  # in float32 a copy has a distance above 0
    smallest = distance.min(dim=1)
    return smallest.values.float(), smallest.indices


def diversity(images: Tensor, labels: Tensor) -> float:
    """Mean distance between two images of one class, in pixel space."""
    flat = images.float().cpu().flatten(1)
    per_class = [torch.pdist(flat[labels.cpu() == k]).mean() for k in labels.unique().tolist()]
    return float(torch.stack(per_class).mean())


def measure(samples: Tensor, labels: Tensor) -> dict[str, float]:
    """All measures of generated digits `(N, 1, size, size)` in [-1, 1] for requested `labels` `(N,)`.

    `near_real_share`: share of samples no farther from their nearest training digit than 95 % of the held-out digits are.
    """
    size = samples.shape[-1]
    train, _, _ = load_digits("train", size)
    held_out, held_out_labels, _ = load_digits("validation", size)
    reader = DigitReader(size)
    real_distance, _ = nearest(held_out, train)
    distance, _ = nearest(samples, train)
    threshold = torch.quantile(real_distance, 0.95)
    return {
        "accuracy": reader.accuracy(samples, labels),
        "accuracy_real": reader.accuracy(held_out, held_out_labels),
        "near_real_share": float((distance <= threshold).float().mean()),
        "near_real_threshold": float(threshold),
        "nearest_distance": float(distance.mean()),
        "nearest_distance_real": float(real_distance.mean()),
        "diversity": diversity(samples, labels),
        "diversity_real": diversity(held_out, held_out_labels),
    }
