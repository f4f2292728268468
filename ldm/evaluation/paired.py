"""Measures of pairs: an image and its target. Reconstructions and originals, restorations and the true image."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from tqdm import tqdm

from ldm.errors import UserError
from ldm.evaluation.distances import Value, mean_of
from ldm.evaluation.scan import Scan
from ldm.precision import exact

PairMeasure = Callable[[Tensor, Tensor], Tensor]  # (B, 3, H, W) in [-1, 1] twice -> (B,)
RANGE = 2.0  # of values in [-1, 1]
BORDER = 5  # half of SSIM's window


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, per image `(B,)`, of `(B, C, H, W)` in [-1, 1]."""
    return peak_signal_noise_ratio(x, y, data_range=RANGE, reduction="none", dim=(1, 2, 3))


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity (Wang et al., 2004: a Gaussian window of sigma 1.5, 11 pixels), per image `(B,)`, of [-1, 1].

    Computed as published: of brightness from 0 on, because its first factor compares means; and over windows inside the image
    only. torchmetrics by itself adds reflected borders, which are a large part of small images.

    Raises:
        UserError: images smaller than a window.
    """
    if min(x.shape[2:]) <= 2 * BORDER:
        raise UserError(
            f"SSIM needs images of at least {2 * BORDER + 1} pixels, the size of its window; these are {x.shape[3]}x{x.shape[2]}"
        )
    x, y = ((image + 1) / RANGE for image in (x, y))
    _, full = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none", return_full_image=True)
    return full[..., BORDER:-BORDER, BORDER:-BORDER].mean((1, 2, 3))


def pairs(samples: Scan, reference: Scan) -> list[tuple[int, int]]:
    """Which image of the reference belongs to which sample: the one of the same name apart from its suffix.

    Raises:
        UserError: names without a partner, two images of a name, or sizes that differ.
    """
    ours, theirs = (by_name(one) for one in (samples, reference))
    if lonely := sorted(ours.keys() ^ theirs.keys()):
        where, lacking = (samples, reference) if lonely[0] in ours else (reference, samples)
        raise UserError(
            f"pairs need equal names: {lonely[0]} of {where.images.what} has no partner in {lacking.images.what} "
            f"({len(lonely)} of {len(ours.keys() | theirs.keys())} have none)"
        )
    same_size(samples, reference)
    return [(i, theirs[name]) for name, i in ours.items()]


def by_name(one: Scan) -> dict[str, int]:
    """Name without its suffix -> number.

    Raises:
        UserError: two images of a name.
    """
    stems = [str(PurePosixPath(name).with_suffix("")) for name in one.names]
    found = {stem: i for i, stem in enumerate(stems)}
    if len(found) < len(stems):
        raise UserError(f"{one.images.what}: two images share a name apart from their suffix")
    return found


def same_size(samples: Scan, reference: Scan) -> None:
    """Check that samples and reference have the same size.

    Raises:
        UserError: they differ; samples are never resized, and the reference only as the user says.
    """
    if samples.size != reference.size:
        (w, h), (x, y) = samples.size, reference.size
        raise UserError(
            f"the samples are {w}x{h}, the images of {reference.images.what} {x}x{y}: nothing is resized silently; name the resize and "
            f"crop that the model's training data went through (--resize {w}), or give a config with its data set"
        )


def batches(samples: Scan, reference: Scan, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs as two tensors `(B, 3, H, W)` in [-1, 1]."""
    found = pairs(samples, reference)
    for first in tqdm(range(0, len(found), batch), desc="pairs", unit="batch", disable=None, leave=False):
        some = found[first : first + batch]
        yield scaled(samples, [i for i, _ in some]), scaled(reference, [j for _, j in some])


def scaled(one: Scan, numbers: Sequence[int]) -> Tensor:
    """Images as float32 in [-1, 1]."""
    return one.batch(numbers).float() / 127.5 - 1


def over_pairs(samples: Scan, reference: Scan, measure: PairMeasure, device: str = "cpu", batch: int = 16) -> Value:
    """Mean over pairs, with the standard deviation that table 8 prints.

    Raises:
        UserError: images that do not pair, or a pair of identical images where the measure is infinite.
    """
    with exact(torch.device(device)):
        parts = [measure(x.to(device), y.to(device)).double().cpu() for x, y in batches(samples, reference, batch)]
    values = torch.cat(parts)
    if not torch.isfinite(values).all():
        at = int((~torch.isfinite(values)).nonzero()[0])
        raise UserError(f"{samples.names[at]} equals its partner in every pixel: is {reference.images.what} the reference?")
    return mean_of(values, range="0 to 255, 8 bit")
