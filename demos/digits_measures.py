"""Measures of generated digits; the classifier and the neighbours know real digits only."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.data.sources.digits import load_digits


def features(images: Tensor) -> Tensor:
    """Digits `(N, 1, H, W)` in [-1, 1] at the scanner's resolution, `(N, 64)`."""
    return F.interpolate(images.float().cpu(), size=(8, 8), mode="area").flatten(1)


class DigitReader:
    """A support vector machine trained on the training digits.

    Args:
        size: of the images it will be shown; training digits pass through the same enlargement.
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
    distance = torch.cdist(images.double().cpu().flatten(1), among.double().flatten(1))  # float32 would take copies for near misses
    smallest = distance.min(dim=1)
    return smallest.values.float(), smallest.indices


def diversity(images: Tensor, labels: Tensor) -> float:
    """Mean distance between two images of one class, in pixel space."""
    flat = images.float().cpu().flatten(1)
    per_class = [torch.pdist(flat[labels.cpu() == k]).mean() for k in labels.unique().tolist()]
    return float(torch.stack(per_class).mean())


def measure(samples: Tensor, labels: Tensor) -> dict[str, float]:
    """All measures of generated digits `(N, 1, size, size)` in [-1, 1] that were asked to be `labels` `(N,)`.

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
