"""Features of a set of images: extracted on any number of devices, and cached on disk.

They depend on the images only, not on the batch size, the number of processes or the order of the set.
"""

import logging
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from ldm.errors import UserError, WriteError
from ldm.evaluation.extractors import Extractor
from ldm.evaluation.images import EvaluationSet
from ldm.evaluation.scan import Scan, loaded, stacked
from ldm.precision import exact
from ldm.system.processes import run_processes
from ldm.system.weights import read_weights, save_tensors, save_weights

log = logging.getLogger(__name__)
Features = dict[str, Tensor]  # by layer, (N, d) float32


@torch.no_grad()
def of_images(extractor: Extractor, images: Tensor) -> Tensor:
    """Features `(N, d)` of images `(N, 3, H, W)` in [-1, 1], rounded to 8 bit, on the CPU."""
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return torch.cat([of_batch(extractor, part, torch.device("cpu"))[extractor.features] for part in pixels.split(256)])


def of_batch(extractor: Extractor, x: Tensor, device: torch.device) -> Features:
    """Features of `(B, 3, H, W)` uint8 on the CPU, in full float32."""
    with exact(device):
        return {name: value.float().cpu() for name, value in extractor(x.to(device)).items()}


def of_numbers(
    images: EvaluationSet, numbers: Sequence[int], extractor: Extractor, device: str, batch: int, workers: int, show: bool
) -> Features:
    """Features of some images of a set, in the order of `numbers`."""
    where = torch.device(device)
    extractor = extractor.to(where).eval()
    parts: list[Features] = []
    with tqdm(total=len(numbers), desc=extractor.name, unit="image", disable=None if show else True, leave=False) as bar:
        for arrays in loaded(images, numbers, batch, workers):
            parts.append(of_batch(extractor, stacked(arrays), where))
            bar.update(len(arrays))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}


def shard(
    rank: int,
    devices: Sequence[str],
    images: EvaluationSet,
    kept: Sequence[int],
    extractor: Extractor,
    batch: int,
    workers: int,
    folder: str,
) -> None:
    """The work of one process: features of every len(devices)-th image, saved in a file of its own."""
    torch.set_num_threads(max(1, torch.get_num_threads() // len(devices)))
    found = of_numbers(images, kept[rank :: len(devices)], extractor, devices[rank], batch, workers, show=rank == 0)
    save_tensors(Path(folder) / f"{rank}.safetensors", found)


def over_devices(scan: Scan, extractor: Extractor, devices: Sequence[str], batch: int, workers: int) -> Features:
    """Features from one process per device, in the order of the set."""
    devices = devices[: len(scan)]
    if len(devices) == 1:
        return of_numbers(scan.images, scan.kept, extractor, devices[0], batch, workers, show=True)
    with tempfile.TemporaryDirectory() as folder:
        work = (devices, scan.images, scan.kept, extractor.cpu(), batch, workers, folder)
        run_processes(shard, [(rank, *work) for rank in range(len(devices))])
        parts = [load_file(Path(folder) / f"{rank}.safetensors") for rank in range(len(devices))]
    features = {name: torch.empty(len(scan), part.shape[1]) for name, part in parts[0].items()}
    for rank, part in enumerate(parts):
        for name, rows in part.items():
            features[name][rank :: len(devices)] = rows
    return features


def extract(
    scan: Scan, extractor: Extractor, devices: Sequence[str] = ("cpu",), batch: int = 64, workers: int = 0, cache: Path | None = None
) -> Features:
    """Features of a set, in its order.

    Args:
        scan: the set.
        extractor: on the CPU.
        devices: one process each; "cpu" may be given several times.
        batch: images at a time on a device.
        workers: reading processes per device.
        cache: folder with a file per extractor and set of images; None disables it.

    Raises:
        UserError: a batch below 1, or features that are not finite.
    """
    if batch < 1 or workers < 0 or not devices:
        raise UserError(f"batch {batch}, workers {workers}: expected at least 1 and 0, and one device")
    file = None if cache is None else cache / f"{scan.fingerprint[:24]}-{extractor.sha256[:24]}.safetensors"
    metadata = protocol(scan, extractor)
    if file is not None and file.is_file() and (cached := from_cache(file, scan, metadata)) is not None:
        return cached
    found = over_devices(scan, extractor, devices, batch, workers)
    for name, value in found.items():
        if not torch.isfinite(value).all():
            raise UserError(f"{scan.images.what}: {extractor.name} gives features ({name}) that are not finite")
    if file is not None:
        try:
            save_weights(file, {**found, "digests": scan.digests}, metadata)
        except WriteError as error:  # the next measurement extracts them again
            log.warning("the features cannot be kept: %s", error)
    return found


def protocol(scan: Scan, extractor: Extractor) -> dict[str, str]:
    """Everything that features depend on."""
    software = ", ".join(f"{name} {version(name)}" for name in extractor.software)
    weights = {"extractor": extractor.sha256, "name": extractor.name, "resize": extractor.resize}
    return {"images": scan.fingerprint, **weights, "software": software}


def from_cache(file: Path, scan: Scan, expected: dict[str, str]) -> Features | None:
    """Stored features, in the order of this set; None if they depend on something else."""
    stored, metadata = read_weights(file)
    if metadata != expected or "digests" not in stored:
        return None
    row_of = {row.tobytes(): i for i, row in enumerate(stored.pop("digests").numpy())}
    rows = torch.tensor([row_of[row.tobytes()] for row in scan.digests.numpy()])
    return {name: value[rows] for name, value in stored.items()}
