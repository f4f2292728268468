"""Every distance against a computation of its own in float64, on the same features."""

import numpy as np
import pytest
import torch

from ldm.errors import UserError
from ldm.evaluation.distances import (
    SEED,
    frechet,
    frechet_distance,
    inception_score,
    jackknife,
    kernel_distance,
    precision_recall,
    statistics,
)
from ldm.evaluation.nearest import nearest

D = 12


def features(n: int, seed: int, shift: float = 0.0, spread: float = 1.0) -> torch.Tensor:
    """Correlated features `(n, D)` with a mean far from 0, as networks give them."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(D, D, generator=torch.Generator().manual_seed(9))
    return (spread * torch.randn(n, D, generator=g) @ mix + 3 + shift).float()


A, B = features(240, 1, shift=0.4, spread=0.6), features(300, 2)


def by_symmetric_root(a: torch.Tensor, b: torch.Tensor) -> float:
    """The formula by eigenvalues of symmetric matrices alone, in float64, without torch-fidelity."""
    x, y = a.double().numpy(), b.double().numpy()
    mean_x, mean_y = x.sum(0) / len(x), y.sum(0) / len(y)
    s_x, s_y = ((z - m).T @ (z - m) / (len(z) - 1) for z, m in ((x, mean_x), (y, mean_y)))
    values, vectors = np.linalg.eigh(s_x)
    root = vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T
    trace = np.sqrt(np.linalg.eigvalsh(root @ s_y @ root).clip(0)).sum()
    return float(((mean_x - mean_y) ** 2).sum() + np.trace(s_x) + np.trace(s_y) - 2 * trace)


def test_frechet_distance() -> None:
    assert frechet_distance(A, B) == pytest.approx(by_symmetric_root(A, B), rel=1e-9)
    far = A + 4096.0  # where float32 sums lose what the distance is made of
    assert frechet_distance(far, B + 4096.0) == pytest.approx(by_symmetric_root(far, B + 4096.0), rel=1e-6)
    assert all(np.allclose(statistics(A, rows=7)[key], statistics(A)[key], rtol=1e-12) for key in ("mu", "sigma"))
    assert frechet(A, B).value == frechet_distance(A, B) and frechet(A, B).spread is None
    assert frechet_distance(A[:, :1], B[:, :1]) == pytest.approx(by_symmetric_root(A[:, :1], B[:, :1]), rel=1e-9)


def test_the_spread_is_that_of_fresh_draws() -> None:
    claimed = np.mean([frechet(features(240, seed, 0.4, 0.6), B, groups=10).spread for seed in range(10, 16)])
    seen = np.std([frechet_distance(features(240, seed, 0.4, 0.6), B) for seed in range(10, 50)])
    assert 0.6 * seen < claimed < 1.6 * seen
    mean_of = jackknife(lambda some: float(some[:, 0].double().mean()), A, 240)[0]  # of a mean, one by one: exact
    assert mean_of == pytest.approx(float(A[:, 0].double().std()) / 240**0.5, rel=1e-9)


def test_too_few_images_are_refused_unless_the_record_may_say_so() -> None:
    with pytest.raises(UserError, match=rf"at least {D} images on each side; there are {D - 1} samples and 300"):
        frechet(A[: D - 1], B)
    with pytest.raises(UserError, match=f"240 samples and {D - 1} of the reference"):
        frechet(A, B[: D - 1])
    assert frechet(A[: D - 1], B, few=True).parameters == {"fewer_than": D}
    assert frechet(A[:D], B[:D]).parameters == {}
    assert frechet(A[:2], B, groups=10, few=True).spread is None  # nothing can be left out
    assert "3 groups" in frechet(A[:3], B, groups=10, few=True).spread_is  # no more groups than images
    with pytest.raises(UserError, match="at least 1000 images"):
        inception_score(torch.randn(999, 5))
    with pytest.raises(UserError, match="subsets of 1000"):
        kernel_distance(A, B)
    with pytest.raises(UserError, match="precision and recall with k = 3 needs at least 300"):
        precision_recall(A, B)


def test_kernel_distance() -> None:
    n = 200  # one subset of everything: what was drawn cannot matter
    a, b = A[:n].double().numpy(), B[:n].double().numpy()

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.array([[(float(u @ v) / D + 1) ** 3 for v in y] for u in x])

    inside = sum((k.sum() - np.trace(k)) / (n * (n - 1)) for k in (kernel(a, a), kernel(b, b)))
    found = kernel_distance(A[:n], B[:n], subsets=1, size=n)
    assert found.value == pytest.approx(inside - 2 * kernel(a, b).mean(), rel=1e-9)
    several = kernel_distance(A, B, subsets=20, size=100)
    assert several.spread > 0 and abs(several.value - found.value) < 4 * several.spread


def test_inception_score() -> None:
    logits = 3 * torch.randn(1003, 7, generator=torch.Generator().manual_seed(0))
    x = logits.double().numpy()[np.random.RandomState(SEED).permutation(1003)]
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    scores = []
    for part in (p[i * 1003 // 10 : (i + 1) * 1003 // 10] for i in range(10)):
        scores.append(np.exp(np.mean([np.sum(row * (np.log(row) - np.log(part.mean(0)))) for row in part])))
    found = inception_score(logits)
    assert found.value == pytest.approx(np.mean(scores), rel=1e-9) and found.spread == pytest.approx(np.std(scores), rel=1e-6)


def inside_balls(points: np.ndarray, centres: np.ndarray, k: int) -> float:
    """Share of points within the distance from a centre to its k-th other centre."""
    radii = [np.sort(np.linalg.norm(centres - c, axis=1))[k] for c in centres]
    return float(np.mean([any(np.linalg.norm(p - c) <= r for c, r in zip(centres, radii, strict=True)) for p in points]))


def test_precision_and_recall_and_which_is_which() -> None:
    a, b = A[:150], B[:120]
    precision, recall = precision_recall(a, b, k=3, few=True)
    x, y = a.double().numpy(), b.double().numpy()
    assert precision.value == pytest.approx(inside_balls(x, y, 3), abs=1e-7)
    assert recall.value == pytest.approx(inside_balls(y, x, 3), abs=1e-7)
    assert precision.value > recall.value + 0.1  # samples of too little variety, as `a` is: precise, but they reach little
    swapped = precision_recall(b, a, k=3, few=True)
    assert (swapped[0].value, swapped[1].value) == (recall.value, precision.value)
    assert precision.parameters == {"k": 3, "fewer_than": 300}


def test_nearest_images() -> None:
    distances, numbers = nearest(A[:20], torch.cat([B, A[7:8]]), k=4, block=6)
    everything = np.linalg.norm(A[:20, None].double().numpy() - torch.cat([B, A[7:8]])[None].double().numpy(), axis=2)
    assert np.allclose(distances, np.sort(everything, axis=1)[:, :4]) and (numbers.numpy() == everything.argsort(1)[:, :4]).all()
    assert distances[7, 0] == 0 and numbers[7, 0] == 300  # a copied training image is found, and is at distance 0
    with pytest.raises(UserError, match="11 nearest images of 10"):
        nearest(A, B[:10], k=11)
