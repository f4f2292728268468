"""A set of images: as many as asked, over the devices there are, and continued where a killed command stopped.

Image i depends on the settings and i alone. Batches lie on a fixed grid (numbers 0 to B-1, B to 2B-1, ...) and are made as wholes,
even if some of their images already exist, so that at an equal batch size a set has the same pixels however often it was
stopped and on however many devices of a kind it was made (on CPUs: with as many threads per process, else rounding may differ).
"""

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
from ldm.checkpoint.guides import load_classifier
from ldm.cli.from_flags import load_from_flags, worse_from_flags
from ldm.cli.job import Job, Steer
from ldm.cli.options import steering_from_flags
from ldm.cli.pictures import beside, write_png
from ldm.cli.requests import Request, together
from ldm.config.renamed import original
from ldm.data.grid import save_grid
from ldm.data.images import to_tensor
from ldm.errors import UserError
from ldm.sampling.image_set import NAME, PER_FOLDER, ImageSet, write_adm
from ldm.system.device import pick_devices
from ldm.system.files import file_sha256, newest_weights
from ldm.system.image_files import open_image
from ldm.system.lock import alone_in, beside_others
from ldm.system.processes import MOST, side_by_side

PATIENCE = 10.0  # seconds: the processes of a command that was killed take a moment to notice
SHOWN = 64  # images in a grid
ROUNDING = ("batch", "version")  # of a PNG's record: these change pixels by rounding alone


@dataclass(frozen=True)
class Plan:
    """What is to be made.

    Attributes:
        asked: gone through in turn.
        size: height and width.
        images: where they go.
    """

    asked: Sequence[Request]
    size: tuple[int, int]
    images: ImageSet

    def of(self, number: int) -> Request:
        """What image `number` is to show."""
        return self.asked[number % len(self.asked)]


def make_set(job: Job, asked: Sequence[Request], count: int, size: tuple[int, int], steer: Steer) -> int:
    """Make what is missing of a set of `count` images that go through the conditions in turn; returns 0.

    Raises:
        UserError: the folder holds another set, or something goes wrong while sampling.
    """
    if count < 1:
        raise UserError(f"--n {count}: expected at least 1")
    devices = devices_of(job)
    with alone_in(job.outdir, f"--outdir {job.outdir}", PATIENCE, "name another folder"):
        plan = Plan(asked, size, ImageSet(job.outdir, count, settings_of(job, asked, count, size)))
        there = begin(plan.images, job, len(devices))
        batch = job.flags.batch
        firsts = [first for first in range(0, count, batch) if not there.issuperset(range(first, min(first + batch, count)))]
        batches = -(-count // batch)
        with job.progress(batches, batches - len(firsts)) as on_step:
            if min(len(devices), len(firsts)) > 1:
                share_out(job, plan, firsts, devices[: len(firsts)], on_step)
            elif firsts:
                make_batches(job, plan, firsts, steer, on_step)
        finish(job, plan, len(there))
    return 0


def devices_of(job: Job) -> list[torch.device]:
    """The device of each process.

    Raises:
        UserError: no number of processes.
    """
    devices = pick_devices(job.flags.device)
    processes = job.flags.processes
    if processes is None:
        return devices
    if not 1 <= processes <= MOST:
        raise UserError(f"--processes {processes}: expected 1 to {MOST}")
    return [devices[i % len(devices)] for i in range(processes)]


def settings_of(job: Job, asked: Sequence[Request], count: int, size: tuple[int, int]) -> dict[str, Any]:
    """All that the images depend on beyond their numbers; files by their content."""
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
        "conditions": hash_of_conditions(asked, count),
    }
    if "label" in asked[0].entries:
        settings["classes"] = balance([asked[i % len(asked)].entries["label"] for i in range(count)])
    return json.loads(json.dumps(settings))  # type: ignore[no-any-return]  # as they will be read


def balance(labels: Sequence[int]) -> str:
    """How often each class occurs, in words."""
    counts = Counter(labels)
    low, high = min(counts.values()), max(counts.values())
    return f"{low} of each of {len(counts)}" if low == high else f"{low} to {high} of each of {len(counts)}"


def hash_of(value: Any) -> str:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def hash_of_conditions(asked: Sequence[Request], count: int) -> str:
    """SHA-256 of what each of the images is to show; equal for lists that ask the same of every image."""
    each = [hashlib.sha256(b"".join(bytes_of(key, value) for key, value in sorted(one.entries.items()))).digest() for one in asked[:count]]
    return hashlib.sha256(b"".join(each[i % len(each)] for i in range(count))).hexdigest()


def bytes_of(key: str, value: Any) -> bytes:
    """An entry of a condition, unmistakably."""
    if isinstance(value, torch.Tensor):
        return f"{key} {value.dtype} {tuple(value.shape)} ".encode() + value.contiguous().numpy().tobytes()
    return f"{key} {json.dumps(value)} ".encode()


def begin(images: ImageSet, job: Job, processes: int) -> set[int]:
    """Settle what the folder holds from now on; returns the numbers of the existing images.

    Raises:
        UserError: it holds another set, or pictures of which it does not say how they were made.
    """
    folder, advice = images.folder, "name another folder, or add --overwrite"
    before = ImageSet.read(folder) if (folder / NAME).is_file() else None
    changes = before.differences(images) if before else []
    there = set() if before else images.there()
    if changes and not job.flags.overwrite:
        raise UserError(f"--outdir {folder} holds images made with other settings ({'; '.join(changes)}): {advice}")
    if there and not job.flags.overwrite:
        raise UserError(f"--outdir {folder}: {len(there)} pictures are there, but no {NAME} that says how they were made: {advice}")
    if changes or there:
        for images_of in filter(None, (before, images)):  # before the settings change: a picture that is there belongs to them
            images_of.remove()
    elif before is not None:
        images.made.extend(before.made)
    images.clear_remains()
    there = images.there()
    if before is None or changes or len(there) < images.count:
        how = {"batch": job.flags.batch, "processes": processes, "torch": torch.__version__, "version": __version__}
        images.made.append(how)
        images.write()
    return there


def make_batches(job: Job, plan: Plan, firsts: Sequence[int], steer: Steer, on_step: Callable[[], None]) -> None:
    """Make the batches that begin with these numbers, and write what is missing of them."""
    for first in firsts:
        numbers = range(first, min(first + job.flags.batch, plan.images.count))
        chosen = [plan.of(number) for number in numbers]
        batch = together(chosen)
        images = job.sample(batch, numbers, plan.size, replace(steer(batch), on_step=on_step))
        for number, one, image in zip(numbers, chosen, images, strict=True):
            if not (path := plan.images.path(number)).exists():
                write_png(path, image, job.record(number=number, **one.note))


def share_out(job: Job, plan: Plan, firsts: Sequence[int], devices: Sequence[torch.device], on_step: Callable[[], None]) -> None:
    """Make batches in one process per device, each with every so many-th of them."""
    job.loaded.model.to("cpu")  # room for the processes
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    threads = max(1, torch.get_num_threads() // len(devices))
    unseen = replace(plan, asked=[replace(one, picture=None) for one in plan.asked])
    packed = pickle.dumps((job.flags, job.settings, unseen))  # here, for tensors would be sent through shared memory, a handle each
    shares = [(packed, firsts[i :: len(devices)], str(device), threads) for i, device in enumerate(devices)]
    side_by_side(make_share, shares, on_step)


def make_share(packed: bytes, firsts: Sequence[int], device: str, threads: int, on_step: Callable[[], None]) -> None:
    """What one process of several does."""
    torch.set_num_threads(threads)
    flags, settings, plan = pickle.loads(packed)  # from the command itself
    flags.device = device
    with beside_others(plan.images.folder, f"--outdir {plan.images.folder}"):
        loaded = load_from_flags(flags)
        job = Job(flags, loaded, settings, plan.images.folder, worse=worse_from_flags(flags, loaded))
        named = getattr(flags, "classifier", None)
        classifier = None if named is None else load_classifier(named, loaded, flags.allow_other_first_stage, flags.raw)
        make_batches(job, plan, firsts, steering_from_flags(job, plan.size, classifier), on_step)


def finish(job: Job, plan: Plan, before: int) -> None:
    """Check that the set is complete, and write what is computed from all images.

    Raises:
        UserError: images are missing, or cannot be read.
    """
    images = plan.images
    paths = images.paths()
    said = f"{images.count} images in {images.folder}" + (f", of which {before} were there" if before else "")
    if images.count <= PER_FOLDER:  # a larger set is for measuring, and its folder holds nothing but its images
        shown = [picture_of(path, plan.of(number)) for number, path in enumerate(paths[:SHOWN])]
        save_grid(torch.stack(shown), images.folder / "grid.png", 8 if plan.asked[0].picture is None else 4)
        said += f"; the first {len(shown)} of them in {images.folder / 'grid.png'}"
    if job.flags.npz:
        labelled = "label" in plan.asked[0].entries
        said += f"; all in {write_adm(images, [plan.of(i).entries['label'] for i in range(images.count)] if labelled else None)}"
    sys.stdout.write(said + "\n")


def picture_of(path: Path, asked: Request) -> torch.Tensor:
    """A finished image `(C, H, W)` in [-1, 1], beside the picture of its condition if there is one."""
    with open_image(path, ["PNG"]) as opened:
        image = to_tensor(opened)
    return image if asked.picture is None else beside(asked.picture, image)
