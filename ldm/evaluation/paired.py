"""Measures of pairs: an image and what it should be. Reconstructions against originals, restorations against the truth."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

import torch
from torch import Tensor
from tqdm import tqdm

from ldm.errors import UserError
from ldm.evaluation.distances import Value
from ldm.evaluation.restoration import BORDER, psnr, ssim
from ldm.evaluation.scan import Scan
from ldm.precision import exact

PairMeasure = Callable[[Tensor, Tensor], Tensor]  # (B, 3, H, W) in [-1, 1] twice -> (B,)


def pairs(samples: Scan, reference: Scan) -> list[tuple[int, int]]:
    """Which image of the reference belongs to which sample: the one of the same name, whatever its ending.

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
    """Name without its ending -> place.

    Raises:
        UserError: two images of a name.
    """
    stems = [str(PurePosixPath(name).with_suffix("")) for name in one.names]
    found = {stem: i for i, stem in enumerate(stems)}
    if len(found) < len(stems):
        raise UserError(f"{one.images.what}: two images share a name apart from their ending")
    return found


def same_size(samples: Scan, reference: Scan) -> None:
    """Whether samples and reference have one size.

    Raises:
        UserError: they have not; samples are never resized, and the reference only by name.
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
    """Mean over pairs, spread as the standard deviation over them: what table 8 prints.

    Raises:
        UserError: images that do not pair, or a pair of identical images where that has no finite value.
    """
    with exact(torch.device(device)):
        parts = [measure(x.to(device), y.to(device)).double().cpu() for x, y in batches(samples, reference, batch)]
    values = torch.cat(parts)
    if not torch.isfinite(values).all():
        at = int((~torch.isfinite(values)).nonzero()[0])
        raise UserError(f"{samples.names[at]} equals its partner in every pixel: is {reference.images.what} the reference?")
    spread = float(values.std()) if len(values) > 1 else None
    return Value(float(values.mean()), spread, "standard deviation over images", {"range": "0 to 255, 8 bit"})


def psnr_of(samples: Scan, reference: Scan, device: str = "cpu") -> Value:
    """PSNR in dB, the mean over images of each one's own."""
    return over_pairs(samples, reference, psnr, device)


def ssim_of(samples: Scan, reference: Scan, device: str = "cpu") -> Value:
    """SSIM, windows that lie inside the image.

    Raises:
        UserError: images smaller than a window.
    """
    if min(samples.size) <= 2 * BORDER:
        raise UserError(f"SSIM looks through windows of {2 * BORDER + 1} pixels; the images are {samples.size[0]}x{samples.size[1]}")
    return over_pairs(samples, reference, ssim, device)
