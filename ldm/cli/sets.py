"""A set of images, sampled on several devices, and continued after a stop.

Image i depends on the settings and i alone. Batches are on a fixed grid (numbers 0 to B-1, B to 2B-1, ...) and are sampled completely,
even if some of their images already exist, so that at the same batch size a set has the same pixels however often it was
stopped and on however many devices of a kind it was sampled (on CPUs: with as many threads per process, else rounding may differ).
"""

import argparse
import hashlib
import json
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ldm import __version__
from ldm.cli.condition_flags import Condition, batch_of
from ldm.cli.job import Job
from ldm.cli.options import options_from_flags
from ldm.cli.pictures import beside, write_png
from ldm.config.renamed import original
from ldm.data.batch import Batch
from ldm.data.grid import save_grid
from ldm.data.images import to_tensor
from ldm.errors import UserError
from ldm.sampling.image_set import NAME, PER_FOLDER, ImageSet, write_adm
from ldm.sampling.options import SamplingOptions
from ldm.system.device import pick_devices
from ldm.system.files import file_sha256
from ldm.system.image_files import open_image
from ldm.system.lock import locked, sharing_lock
from ldm.system.processes import run_processes
from ldm.system.run_folder import newest_weights

PATIENCE = 10.0  # seconds: the processes of a killed command take a moment to notice
SHOWN = 64  # images in a grid
ROUNDING = ("batch", "version")  # of a PNG's record: these change pixels by rounding alone


@dataclass(frozen=True)
class Plan:
    """What to sample.

    Attributes:
        conditions: used in turn.
        size: height and width.
        images: where they are written.
    """

    conditions: Sequence[Condition]
    size: tuple[int, int]
    images: ImageSet

    def condition(self, number: int) -> Condition:
        """The condition of image `number`."""
        return self.conditions[number % len(self.conditions)]


def sample_set(job: Job, conditions: Sequence[Condition], size: tuple[int, int], count: int | None = None) -> int:
    """Sample the missing images of a set of `count` images that use the conditions in turn, by default each once; returns 0.

    Raises:
        UserError: the folder holds another set, or sampling fails.
    """
    count = len(conditions) if count is None else count
    options = options_from_flags(job, size)
    devices = devices_of(job.flags)
    with locked(job.outdir, f"--outdir {job.outdir}", PATIENCE, "name another folder"):
        plan = Plan(conditions, size, ImageSet(job.outdir, count, settings_of(job, conditions, count, size)))
        existing = begin(plan.images, job, len(devices))
        batch = job.flags.batch
        firsts = [first for first in range(0, count, batch) if not existing.issuperset(range(first, min(first + batch, count)))]
        batches = -(-count // batch)
        with job.progress(batches, batches - len(firsts)) as on_step:
            if min(len(devices), len(firsts)) > 1:
                sample_on_devices(job, plan, firsts, devices[: len(firsts)], on_step)
            elif firsts:
                sample_batches(job, plan, firsts, options, on_step)
        finish(job, plan, len(existing))
    return 0


def devices_of(flags: argparse.Namespace) -> list[torch.device]:
    """The device of each process."""
    devices = pick_devices(flags.device)
    return devices if flags.processes is None else [devices[i % len(devices)] for i in range(flags.processes)]


def settings_of(job: Job, conditions: Sequence[Condition], count: int, size: tuple[int, int]) -> dict[str, Any]:
    """All that the images depend on in addition to their numbers; files by their hashes."""
    flags = job.flags
    record = {key: value for key, value in job.record().items() if key not in ("model", "sha256", "step", *ROUNDING)}
    files = {key: Path(path) for key in ("init", "guide", "classifier") if (path := getattr(flags, key, None)) is not None}
    settings = {
        "weights": job.loaded.sha256,
        **record,
        "height": size[0],
        "width": size[1],
        "first_stage": job.model.first_stage.sha256 or "inside",
        "config": hash_of(original(job.loaded.config.get("model"))),
        **{f"content of --{key}": file_sha256(newest_weights(path)) for key, path in files.items()},
        "conditions": hash_of_conditions(conditions, count),
    }
    if "label" in conditions[0].entries:
        settings["classes"] = balance([conditions[i % len(conditions)].entries["label"] for i in range(count)])
    return json.loads(json.dumps(settings))  # type: ignore[no-any-return]  # as they will be read


def balance(labels: Sequence[int]) -> str:
    """How often each class occurs, in words."""
    counts = Counter(labels)
    low, high = min(counts.values()), max(counts.values())
    return f"{low} of each of {len(counts)}" if low == high else f"{low} to {high} of each of {len(counts)}"


def hash_of(value: Any) -> str:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def hash_of_conditions(conditions: Sequence[Condition], count: int) -> str:
    """SHA-256 of the condition of every image, however they are listed."""
    each = [b"".join(bytes_of(key, value) for key, value in sorted(one.entries.items())) for one in conditions[:count]]
    hashes = [hashlib.sha256(content).digest() for content in each]
    return hashlib.sha256(b"".join(hashes[i % len(hashes)] for i in range(count))).hexdigest()


def bytes_of(key: str, value: Any) -> bytes:
    """An entry of a condition for hashing."""
    if isinstance(value, torch.Tensor):
        return f"{key} {value.dtype} {tuple(value.shape)} ".encode() + value.contiguous().numpy().tobytes()
    return f"{key} {json.dumps(value)} ".encode()


def begin(images: ImageSet, job: Job, processes: int) -> set[int]:
    """Prepare the folder, and record its settings; returns the numbers of the existing images.

    Raises:
        UserError: it holds another set, or pictures whose settings are unknown.
    """
    folder, advice = images.folder, "name another folder, or add --overwrite"
    before = ImageSet.read(folder) if (folder / NAME).is_file() else None
    changes = before.differences(images) if before else []
    unknown = set() if before else images.there()
    if changes and not job.flags.overwrite:
        raise UserError(f"--outdir {folder} holds images made with other settings ({'; '.join(changes)}): {advice}")
    if unknown and not job.flags.overwrite:
        raise UserError(f"--outdir {folder}: {len(unknown)} pictures are there, but no {NAME} that says how they were made: {advice}")
    if changes or unknown:
        for old in filter(None, (before, images)):  # before the settings change: existing pictures belong to them
            old.remove()
    elif before is not None:
        images.made.extend(before.made)
    images.clear_remains()
    existing = images.there()
    if before is None or changes or len(existing) < images.count:
        how = {"batch": job.flags.batch, "processes": processes, "torch": torch.__version__, "version": __version__}
        images.made.append(how)
        images.write()
    return existing


def sample_batches(
    job: Job, plan: Plan, firsts: Sequence[int], options: Callable[[Batch], SamplingOptions], on_step: Callable[[], None]
) -> None:
    """Sample the batches that begin with these numbers, and write those of their images that are missing."""
    for first in firsts:
        numbers = range(first, min(first + job.flags.batch, plan.images.count))
        conditions = [plan.condition(number) for number in numbers]
        batch = batch_of(conditions)
        images = job.sample(batch, numbers, plan.size, replace(options(batch), on_step=on_step))
        for number, condition, image in zip(numbers, conditions, images, strict=True):
            if not (path := plan.images.path(number)).exists():
                write_png(path, image, job.record(number=number, **condition.note))


def sample_on_devices(job: Job, plan: Plan, firsts: Sequence[int], devices: Sequence[torch.device], on_step: Callable[[], None]) -> None:
    """Sample batches in one process per device, spread evenly."""
    job.loaded.model.to("cpu")  # frees memory for the processes
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    threads = max(1, torch.get_num_threads() // len(devices))
    without_pictures = replace(plan, conditions=[replace(one, picture=None) for one in plan.conditions])
    packed = pickle.dumps((job.flags, without_pictures))  # here, because tensors would be sent through shared memory, a handle each
    shares = [(packed, firsts[i :: len(devices)], str(device), threads) for i, device in enumerate(devices)]
    run_processes(sample_share, shares, on_step)


def sample_share(packed: bytes, firsts: Sequence[int], device: str, threads: int, on_step: Callable[[], None]) -> None:
    """The work of one process of several."""
    torch.set_num_threads(threads)
    flags, plan = pickle.loads(packed)  # from the command itself
    flags.device = device
    with sharing_lock(plan.images.folder, f"--outdir {plan.images.folder}"):
        job = Job.open(flags)
        sample_batches(job, plan, firsts, options_from_flags(job, plan.size), on_step)


def finish(job: Job, plan: Plan, before: int) -> None:
    """Check that the set is complete, and write what is computed from all images.

    Raises:
        UserError: images are missing, or cannot be read.
    """
    images = plan.images
    paths = images.paths()
    text = f"{images.count} images in {images.folder}" + (f", of which {before} already existed" if before else "")
    if images.count <= PER_FOLDER:  # a larger set is for measuring, and its folder holds nothing but its images
        shown = [picture_of(path, plan.condition(number)) for number, path in enumerate(paths[:SHOWN])]
        names = [str(plan.condition(number).note.get("class", "")) for number in range(len(shown))]
        save_grid(torch.stack(shown), images.folder / "grid.png", 8 if plan.conditions[0].picture is None else 4, names)
        text += f"; the first {len(shown)} of them in {images.folder / 'grid.png'}"
    if job.flags.npz:
        labelled = "label" in plan.conditions[0].entries
        labels = [plan.condition(i).entries["label"] for i in range(images.count)] if labelled else None
        text += f"; all in {write_adm(images, labels)}"
    sys.stdout.write(text + "\n")


def picture_of(path: Path, condition: Condition) -> torch.Tensor:
    """A finished image `(C, H, W)` in [-1, 1], beside the picture of its condition if there is one."""
    with open_image(path, ["PNG"]) as opened:
        image = to_tensor(opened)
    return image if condition.picture is None else beside(condition.picture, image)
