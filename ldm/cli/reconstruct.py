"""What `scripts/reconstruct.py` does: encode and decode a set of images."""

import argparse
import shutil
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from ldm.checkpoint.frozen import first_stage_source, frozen
from ldm.cli.measuring import open_images
from ldm.cli.pictures import write_png
from ldm.config import AllowedTargets
from ldm.errors import UserError
from ldm.evaluation.images import FolderSet, Prepare
from ldm.evaluation.paired import scaled
from ldm.evaluation.provenance import shared
from ldm.evaluation.scan import Scan, scan
from ldm.first_stage.base import FirstStage
from ldm.rng import generator, normal
from ldm.system.device import pick_device
from ldm.system.files import writing

FOLDERS = ("originals", "reconstructions")


@torch.no_grad()
def reconstruct(flags: argparse.Namespace) -> int:
    """Write the originals and their reconstructions; returns the exit code."""
    device = pick_device(flags.device)
    model = frozen(first_stage_source(flags.model), AllowedTargets(tuple(flags.trust)).for_model()).to(device)
    if flags.sample and not model.stochastic:
        raise UserError(f"--sample: {flags.model} has no posterior to sample")
    if model.image_channels not in (1, 3):
        raise UserError(f"{flags.model}: a first stage of {model.image_channels} channels; pairs are measured with 1 or 3")
    prepare = Prepare(flags.resize, flags.filter, flags.crop_first)
    images = scan(open_images(flags.images, flags, prepare, "REFERENCE"), flags.workers, flags.n)
    settings = {"model": flags.model, "sha256": str(model.sha256), "posterior": "sample" if flags.sample else "mode"}
    settings |= {"resize": images.images.resize, "crop": images.images.crop}  # unknown from the originals
    settings |= {"seed": flags.seed} if flags.sample else {}
    outdir = Path(flags.outdir)
    if finished(outdir, images, settings):
        sys.stdout.write(f"{len(images)} pairs already exist, in {outdir}\n")
        return 0
    beside = outdir / ".unfinished"  # an interrupted run leaves no incomplete set
    shutil.rmtree(beside, ignore_errors=True)
    for first in tqdm(range(0, len(images), flags.batch), unit="batch", disable=None):
        numbers = range(first, min(first + flags.batch, len(images)))
        x = scaled(images, numbers)
        again = reconstructed(model, x.to(device), numbers, flags.seed if flags.sample else None).cpu()
        for number, original, image in zip(numbers, x, again, strict=True):
            write_png(beside / "originals" / f"{number:06d}.png", original, None)
            write_png(beside / "reconstructions" / f"{number:06d}.png", image, {**settings, "number": number})
    with writing(outdir):
        for name in FOLDERS:
            (beside / name).rename(outdir / name)
        beside.rmdir()
    sys.stdout.write(f"{len(images)} pairs in {outdir / 'reconstructions'} and {outdir / 'originals'}\n")
    return 0


def finished(outdir: Path, images: Scan, settings: dict[str, object]) -> bool:
    """Whether the same pairs already exist.

    Raises:
        UserError: there are others; pairs of two runs would be measured as one set.
    """
    there = [outdir / name for name in FOLDERS if (outdir / name).exists()]
    if len(there) == len(FOLDERS):
        originals, made = (FolderSet(folder) for folder in there)
        alike = len(made) == len(images) and all(shared(one or {}) == shared(settings) for one in made.settings)
        if alike and scan(originals).fingerprint == images.fingerprint:
            return True
    if there:
        raise UserError(f"{there[0]}: holds pairs of another run, and two runs must not mix: move it away or name another --outdir")
    return False


def reconstructed(model: FirstStage, x: torch.Tensor, numbers: range, seed: int | None) -> torch.Tensor:
    """D(E(x)) of images `(B, 3, H, W)` in [-1, 1], in [-1, 1]; grey if the model is.

    Raises:
        UserError: a size that the model does not support.
    """
    x = x[:, :1] if model.image_channels == 1 else x
    try:
        shape = model.latent_shape(x.shape[2], x.shape[3])
    except ValueError as error:
        raise UserError(f"{error}: name another --resize") from error
    noise = None if seed is None else normal(shape, [generator("reconstruct", seed, i) for i in numbers], x)
    return model.decode(model.encode(x, noise)).float().clamp(-1, 1)
