"""Distances between two sets of features, and the Inception Score of a set of logits: torch-fidelity's functions, in float64.

torch-fidelity keeps features in float32, where the mean over many images and the sums of kernels lose digits; its functions
compute in float64 when they are given float64.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from ldm.errors import UserError

SEED = 2020  # torch-fidelity's
PER_SPLIT = 100  # images that a split of the Inception Score needs: it can never exceed their number


@dataclass(frozen=True)
class Value:
    """A number, its spread, which kind of spread it is, and what the number depends on beside the images."""

    value: float
    spread: float | None = None
    spread_is: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


def mean_of(values: Tensor, over: str = "images", standard_error: bool = False, **parameters: Any) -> Value:
    """Mean of one number per image `(N,)` float64; its spread is their standard deviation or the standard error of the mean."""
    spread = None if len(values) < 2 else float(values.std()) / (len(values) ** 0.5 if standard_error else 1)
    return Value(float(values.mean()), spread, f"standard {'error' if standard_error else 'deviation'} over {over}", parameters)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Frechet distance between two sets of features `(N, d)` and `(M, d)`, as normal distributions, in float64; at least 0."""
    return frechet_of(statistics(a), statistics(b))


def statistics(features: Tensor, rows: int = 1 << 14) -> dict[str, np.ndarray]:
    """Mean and covariance (over N - 1) of features `(N, d)`, in float64.

    By blocks of rows: torch-fidelity's takes several copies of all features, too much memory for a reference of a million images.
    """
    blocks = features.detach().cpu().split(rows)
    mean = torch.stack([block.double().sum(0) for block in blocks]).sum(0) / len(features)
    products = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for block in blocks:
        centred = block.double() - mean
        products += centred.T @ centred
    return {"mu": mean.numpy(), "sigma": (products / (len(features) - 1)).numpy()}


def frechet_of(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Frechet distance between two statistics; rounding below 0 counts as 0."""
    return max(float(fid_statistics_to_metric(a, b, verbose=False)[KEY_METRIC_FID]), 0.0)


def jackknife(measure: Callable[[Tensor], float], features: Tensor, groups: int) -> tuple[float | None, str]:
    """Standard error of a measure of samples `(N, d)`, leaving out groups of them in turn (Efron & Tibshirani, 1993, ch. 11).

    Smaller subsets or draws with repetition would raise a Frechet distance itself; leaving a tenth out changes it little.
    """
    groups = min(groups, len(features))
    if groups < 2 or len(features) < 3:  # the rest needs a covariance
        return None, ""
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(SEED))
    values = np.array([measure(features[order[torch.arange(len(order)) % groups != k]]) for k in range(groups)])
    error = float(np.sqrt((groups - 1) / groups * np.square(values - values.mean()).sum()))
    return error, f"standard error over the choice of samples, {groups} groups left out in turn"


def frechet(samples: Tensor, reference: Tensor, groups: int = 0, few: bool = False) -> Value:
    """Frechet distance with the spread over the choice of samples.

    Args:
        samples, reference: `(N, d)` and `(M, d)`.
        groups: of the jackknife; below 2 disables it.
        few: accept fewer images than there are dimensions.

    Raises:
        UserError: fewer images than dimensions: the covariance is not of full rank, and the distance is mostly bias.
    """
    lacking = enough(samples, reference, samples.shape[1], "a Frechet distance over these features", few)
    theirs = statistics(reference)
    spread, meaning = jackknife(lambda some: frechet_of(statistics(some), theirs), samples, groups)
    return Value(frechet_of(statistics(samples), theirs), spread, meaning, lacking)


def enough(samples: Tensor, reference: Tensor, least: int, what: str, few: bool) -> dict[str, Any]:
    """Check that both sets have `least` images; returns the parameter that records accepted smaller sets.

    Raises:
        UserError: too few.
    """
    smallest = min(len(samples), len(reference))
    if smallest >= least:
        return {}
    if not few or smallest < 2:
        raise UserError(
            f"{what} needs at least {least} images on each side; there are {len(samples)} samples and {len(reference)} of the "
            f"reference (--allow-few measures anyway, and the record says so)"
        )
    return {"fewer_than": least}


def inception_score(logits: Tensor, splits: int = 10, few: bool = False) -> Value:
    """Inception Score of logits `(N, classes)`: mean and standard deviation over shuffled splits.

    Raises:
        UserError: too few images.
    """
    lacking = enough(logits, logits, splits * PER_SPLIT, f"an Inception Score of {splits} splits", few)
    if len(logits) < splits:
        raise UserError(f"{len(logits)} images cannot be split {splits} times")
    found = isc_features_to_metric(logits.cpu(), splits, True, SEED)
    parameters = {"splits": splits, "shuffle_seed": SEED, **lacking}
    return Value(found[KEY_METRIC_ISC_MEAN], found[KEY_METRIC_ISC_STD], f"standard deviation over {splits} splits", parameters)


def kernel_distance(samples: Tensor, reference: Tensor, subsets: int = 100, size: int = 1000) -> Value:
    """KID: the unbiased squared maximum mean discrepancy under (x.y / d + 1)^3, over random subsets; may be slightly negative.

    Raises:
        UserError: fewer images than a subset has.
    """
    if min(len(samples), len(reference)) < size:
        raise UserError(
            f"KID takes subsets of {size}; there are {len(samples)} samples and {len(reference)} images of the reference "
            "(--kid-size sets another size, which the record names)"
        )
    if subsets < 1 or size < 2:
        raise UserError(f"KID: {subsets} subsets of {size}: expected at least 1 of 2")
    found = kid_features_to_metric(
        samples.double(), reference.double(), kid_subsets=subsets, kid_subset_size=size, rng_seed=SEED, verbose=False
    )
    meaning = f"standard deviation over {subsets} subsets"
    return Value(found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD], meaning, {"subsets": subsets, "subset_size": size, "seed": SEED})


def precision_recall(samples: Tensor, reference: Tensor, k: int = 3, few: bool = False, device: str = "cpu") -> tuple[Value, Value]:
    """Precision and recall (Kynkaanniemi et al., 2019): shares inside the other set's balls of the k-th neighbour's radius.

    The features decide the variant: VGG16's for torch-fidelity's, Inception's for that of ADM's script (which has the same k = 3
    and the same definition, and computes distances in half precision where they fit; here they are float64).

    Raises:
        UserError: too few images.
    """
    lacking = enough(samples, reference, 100 * k, f"precision and recall with k = {k}", few)
    if min(len(samples), len(reference)) <= k:
        raise UserError(f"precision and recall with k = {k} need more than {k} images on each side")
    found = prc_features_to_metric(
        samples.double().to(device), reference.double().to(device), prc_neighborhood=k, save_cpu_ram=True, verbose=False
    )
    values = []
    for key, count in ((KEY_METRIC_PRECISION, len(samples)), (KEY_METRIC_RECALL, len(reference))):
        share = float(found[key])
        error = (share * (1 - share) / count) ** 0.5
        values.append(Value(share, error, f"standard error of a share of {count} images", {"k": k, **lacking}))
    return values[0], values[1]
