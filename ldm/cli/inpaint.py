"""What `scripts/inpaint.py` does: fill the masked regions of the images of a folder."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ldm.cli.condition_flags import Condition, batch_of, conditioner_for, conditions_from_flags, reads
from ldm.cli.job import Job
from ldm.cli.masked_images import MaskedImage, Read, generated_masks, masks_of_folder, pasted
from ldm.cli.pictures import pad_to
from ldm.cli.restoring import Result, number_of, padded_size, restore_all
from ldm.cli.tiles import with_automatic_tiles
from ldm.data.images import to_image, to_tensor
from ldm.errors import UserError
from ldm.sampling.options import SamplingOptions


def inpaint(flags: argparse.Namespace) -> int:
    """Sample every result and write it; returns the exit code."""
    job = Job.open(flags)
    model, folder = job.model, Path(flags.indir)
    if not (flags.known or conditioner_for(model, "masked_image") or conditioner_for(model, "mask")):
        raise UserError(f"this model reads {reads(model)}, not masks: --known inpaints with a model that was not trained for it")
    conditions = conditions_from_flags(flags, model, job.classes(), also=("mask", "masked_image"))
    channels = model.first_stage.image_channels
    images = masks_of_folder(folder, channels) if flags.masks is None else generated_masks(folder, channels, flags.masks, flags.seed)
    sizes, named = [], []
    for read in images:  # errors in a pair are reported before sampling
        image = read()
        sizes.append(padded_size(image.image, model.size_multiple))
        named.append(replace(image, image=Image.new("L", (1, 1)), mask=image.mask[:1, :1].copy()))  # a folder may be larger than memory
    job, note = with_automatic_tiles(job, sizes)
    for i, image in enumerate(named):
        for k in range(flags.n):
            job.check_free(*result_of(job, image, (i, k), conditions))
        if flags.masks is not None:
            job.check_free(*mask_of(job, image))
    return restore_all(job, sizes, note, lambda results, options: fill(job, results, images, conditions, options))


def result_of(job: Job, image: MaskedImage, result: Result, conditions: list[Condition]) -> tuple[str, dict[str, Any]]:
    """Name and settings of a result."""
    number = number_of(result, job.flags.n)
    name = image.name + (f"-{result[1]:02d}" if job.flags.n > 1 else "")
    note = conditions[number % len(conditions)].note
    return f"{name}.png", job.record(**image.note, **note, candidate=result[1], noise=number, known=job.flags.known)


def mask_of(job: Job, image: MaskedImage) -> tuple[str, dict[str, Any]]:
    """Name and settings of a generated mask."""
    return f"{image.name}_mask.png", {"masks": job.flags.masks, "seed": job.flags.seed}


def fill(job: Job, results: list[Result], images: list[Read], conditions: list[Condition], options: SamplingOptions) -> None:
    """Write results for images of one size, and generated masks."""
    multiple = job.model.size_multiple
    given = {i: images[i]() for i, _ in results}
    # Masks are mirrored like the images: masked content would otherwise reappear as known beside them.
    masks = {i: pad_to(torch.from_numpy(image.mask).float()[None, None], multiple) for i, image in given.items()}
    padded = {i: pad_to(to_tensor(image.image)[None], multiple) for i, image in given.items()}
    mask, x = (torch.cat([found[i] for i, _ in results]) for found in (masks, padded))
    if job.flags.known:
        options = replace(options, known=x, mask=mask)
    numbers = [number_of(result, job.flags.n) for result in results]
    batch = batch_of([conditions[number % len(conditions)] for number in numbers])
    batch |= {"mask": mask, "masked_image": torch.where(mask > 0, -1.0, x)}  # black inside the mask, as in the original
    sampled = job.sample(batch, numbers, (x.shape[2], x.shape[3]), options)
    for result, picture in zip(results, sampled, strict=True):
        image = given[result[0]]
        name, note = result_of(job, image, result, conditions)
        job.write(name, pasted(image, to_image(picture)), note, like=image.image)
        if job.flags.masks is not None:
            name, note = mask_of(job, image)
            job.write(name, Image.fromarray(image.mask), note)
