"""What `scripts/inpaint.py` does: fill the masked regions of the images of a folder."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ldm.cli.batches import Result, number_of, padded_size, rounds
from ldm.cli.job import Job
from ldm.cli.pairs import MaskedImage, Read, make_pairs, pasted, read_pairs
from ldm.cli.pictures import pad_to
from ldm.cli.requests import Request, classes_and_prompts, part_reading, reads, together
from ldm.data.images import to_image, to_tensor
from ldm.errors import UserError
from ldm.sampling.options import SamplingOptions


def inpaint(flags: argparse.Namespace) -> int:
    """Sample every result and write it; returns the exit code."""
    job = Job.open(flags)
    reads_mask = part_reading(job.model, "masked_image") is not None or part_reading(job.model, "mask") is not None
    if not reads_mask and not flags.known:
        raise UserError(f"this model reads {reads(job.model)}, not masks: --known inpaints with a model that was not trained for it")
    asked = classes_and_prompts(flags, job.model, also=("mask", "masked_image"))
    pairs = asked_pairs(job, Path(flags.indir))
    sizes, named = [], []
    for read in pairs:  # a wrong pair, and a picture in the way, are known before sampling
        pair = read()
        sizes.append(padded_size(pair.image, job.model.size_multiple))
        named.append(replace(pair, image=Image.new("L", (1, 1)), hole=pair.hole[:1, :1].copy()))  # a folder may be larger than memory
    job = job.for_sizes(sizes)
    for place, pair in enumerate(named):
        for i in range(flags.n):
            job.check_free(*result_of(job, pair, (place, i), asked))
        if flags.masks is not None:
            job.check_free(*mask_of(job, pair))
    in_windows = {size: job.windows_at(size) for size in sizes}
    planned = rounds(sizes, flags.n, lambda size: 1 if in_windows[size] else flags.batch)
    said = job.in_windows(sizes)
    with job.progress(len(planned)) as on_step:
        for results in planned:
            fill(job, results, pairs, asked, SamplingOptions(tiles=in_windows[sizes[results[0][0]]], on_step=on_step))
    sys.stdout.write(f"{flags.n * len(pairs)} images in {job.outdir}{said}\n")
    return 0


def asked_pairs(job: Job, folder: Path) -> list[Read]:
    """The folder's pairs, or its images with generated masks."""
    flags, channels = job.flags, job.model.first_stage.image_channels
    return read_pairs(folder, channels) if flags.masks is None else make_pairs(folder, channels, flags.masks, flags.seed)


def result_of(job: Job, pair: MaskedImage, result: Result, asked: list[Request]) -> tuple[str, dict[str, Any]]:
    """Name and settings of a result."""
    number = number_of(result, job.flags.n)
    name = pair.name + (f"-{result[1]:02d}" if job.flags.n > 1 else "")
    note = asked[number % len(asked)].note
    return f"{name}.png", job.record(**pair.note, **note, candidate=result[1], noise=number, known=job.flags.known)


def mask_of(job: Job, pair: MaskedImage) -> tuple[str, dict[str, Any]]:
    """Name and settings of a generated mask."""
    return f"{pair.name}_mask.png", {"masks": job.flags.masks, "seed": job.flags.seed}


def fill(job: Job, results: list[Result], pairs: list[Read], asked: list[Request], steering: SamplingOptions) -> None:
    """Results for images of one size, and generated masks."""
    flags, multiple = job.flags, job.model.size_multiple
    given = {place: pairs[place]() for place, _ in results}
    # masks are mirrored like the images: masked content would otherwise reappear as known beside them
    holes = {place: pad_to(torch.from_numpy(pair.hole).float()[None, None], multiple) for place, pair in given.items()}
    images = {place: pad_to(to_tensor(pair.image)[None], multiple) for place, pair in given.items()}
    hole, image = (torch.cat([found[place] for place, _ in results]) for found in (holes, images))
    if flags.known:
        steering = replace(steering, known=image, mask=hole)
    numbers = [number_of(result, job.flags.n) for result in results]
    # the masked image is black inside the mask, as in the original
    batch = together([asked[number % len(asked)] for number in numbers]) | {
        "mask": hole,
        "masked_image": torch.where(hole > 0, -1.0, image),
    }
    sampled = job.sample(batch, numbers, (image.shape[2], image.shape[3]), steering)
    for result, picture in zip(results, sampled, strict=True):
        pair = given[result[0]]
        name, note = result_of(job, pair, result, asked)
        job.write(name, pasted(pair, to_image(picture)), note, like=pair.image)
        if flags.masks is not None:
            name, note = mask_of(job, pair)
            job.write(name, Image.fromarray(pair.hole), note)
