"""The speed columns of tables 5, 6 and 18 as ratios between rows, with random weights, which are as fast as trained ones.

A row's time per image is computed from pieces that are timed alternately with those of the other rows: one denoising step with its
guidance, conditioning and decoding, one training step. All denoising steps take the same time.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ldm.check import Report, example_batch, without_checkpoints
from ldm.cli.options import classifier_guide
from ldm.config import AllowedTargets, build
from ldm.data.batch import Batch
from ldm.diffusion.guidance import Denoise
from ldm.diffusion.image_guidance import image_guided, perceptual, reduced_to
from ldm.errors import UserError
from ldm.first_stage import LPIPS
from ldm.precision import sampling_context
from ldm.rng import StepRNG
from ldm.sampling.generate import to_device
from ldm.training import ClassifierTraining, DiffusionTraining
from paper.narrow import narrowed
from paper.sizes import config_of
from paper.tables import Row, Table
from paper.timing import Piece, Ratio, Seconds, in_turn, ratio

SIZES = {"sample": 256, "sample-512": 512}


@dataclass(frozen=True)
class SpeedSettings:
    """Settings of the speed measurement.

    Attributes:
        share: of every width; 1 is full size.
        rounds: number of rounds, in each of which every row is timed once.
        batch: batch size of sampling and training.
        precision: as in the scripts' flags.
        pixels: share of the height and width of the images; 1 is full size.
    """

    device: torch.device
    share: float = 1.0
    rounds: int = 5
    batch: int = 1
    precision: str = "fp32"
    pixels: float = 1.0

    def text(self) -> str:
        """As printed with results."""
        name = (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else f"CPU, {torch.get_num_threads()} threads, processor seconds"
        )
        width = "full width" if self.share == 1.0 else f"{self.share:g} of every width"
        size = "" if self.pixels == 1.0 else f", {self.pixels:g} of every image side"
        return f"{name}, {width}{size}, batch {self.batch}, {self.precision}, random weights, rows alternating"


@dataclass
class Speeds:
    """Seconds per image and round, by printed column and row.

    Attributes:
        seconds: column -> row -> one value per round.
        parameters: row -> millions of parameters at the measured width.
        settings: as text.
    """

    settings: str
    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    parameters: dict[str, float] = field(default_factory=dict)

    def ratio(self, column: str, row: str, baseline: str) -> Ratio:
        """Speed of a row divided by that of another."""
        return ratio(self.seconds[column][baseline], self.seconds[column][row])

    def images_per_second(self, column: str, row: str) -> float:
        """Median over rounds."""
        return 1.0 / statistics.median(self.seconds[column][row])


def printed_ratio(column: str, row: Row, baseline: Row) -> float:
    """The same ratio of printed values, inverted for hours."""
    a, b = row.paper[column], baseline.paper[column]
    return b / a if "hours" in column else a / b


def measure(table: Table, rows: list[Row], settings: SpeedSettings, after: Callable[[], object] = lambda: None) -> Speeds:
    """Time rows of a table that has speed columns.

    Raises:
        UserError: a width cannot be reduced by this share, or the device is out of memory.
    """
    models: dict[str, Any] = {}
    speeds = Speeds(settings.text())
    pieces: dict[str, Piece] = {}
    for row in rows:
        module = models.setdefault(row.config, _model(row.config, settings))
        guide = models.setdefault(row.classifier, _model(row.classifier, settings)) if row.classifier else None
        speeds.parameters[row.row] = sum(p.numel() for p in module.model.network.parameters()) / 1e6
        for kind in dict.fromkeys(table.speed["columns"].values()):
            pieces |= {f"{row.row}/{name}": piece for name, piece in _pieces(kind, row, module, guide, settings).items()}
    try:
        seconds = in_turn(pieces, settings.rounds, settings.device, after)
    except torch.OutOfMemoryError as error:
        raise UserError(f"not enough memory for {settings.text()}: use a smaller --speed-batch or --share") from error
    for column, kind in table.speed["columns"].items():
        speeds.seconds[column] = {row.row: _per_image(kind, row, seconds, settings.batch) for row in rows if column in row.paper}
    return speeds


def pieces_of(table: Table, rows: list[Row]) -> int:
    """Number of pieces per round, for progress bars."""
    kinds = {"train" if kind in ("train", "epoch") else kind for kind in table.speed["columns"].values()}
    return len(rows) * sum(1 if kind == "train" else 2 for kind in kinds)


def _per_image(kind: str, row: Row, seconds: Seconds, batch: int) -> list[float]:
    """Seconds per image in every round."""
    if kind in ("train", "epoch"):
        return [one / batch for one in seconds[f"{row.row}/train"]]
    step, once = (seconds[f"{row.row}/{kind}-{part}"] for part in ("step", "once"))
    return [(int(row.sampling["steps"]) * a + b) / batch for a, b in zip(step, once, strict=True)]


def _model(config: str, settings: SpeedSettings) -> Any:
    """A training module with random weights on the device."""
    node = narrowed(without_checkpoints(config_of(config).data["model"], "model", Report()), settings.share, settings.pixels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(node, AllowedTargets(), "model")
    if isinstance(module, DiffusionTraining) and module.model.scale_by_std:
        module.model.scale.fill_(1.0)
        module.model.scale_by_std = False
    module.manual_backward = lambda loss: loss.backward()
    return module.to(settings.device)


def _pieces(kind: str, row: Row, module: DiffusionTraining, guide: ClassifierTraining | None, settings: SpeedSettings) -> dict[str, Piece]:
    """The pieces of one column of one row."""
    side = int(SIZES.get(kind, 256) * settings.pixels)
    batch = to_device(example_batch(module, side, side, settings.batch), settings.device)
    if kind in ("train", "epoch"):
        return {"train": _training_step(module, batch, settings)}
    model, scale = module.model, float(row.sampling.get("scale", 1.0))
    shape = model.latent_shape(side, side)
    z = torch.randn(settings.batch, *shape, device=settings.device)
    t = model.process.spacings()["uniform"](2)[1]
    with torch.no_grad():
        denoise = _guided(model.denoiser(batch, scale), row, model, batch, guide, settings)

    def step() -> None:
        with torch.no_grad(), sampling_context(settings.precision, settings.device):
            denoise(z, t)

    def once() -> None:
        with torch.no_grad(), sampling_context(settings.precision, settings.device):
            model.denoiser(batch, scale)
            model.decode(z)

    return {f"{kind}-step": step, f"{kind}-once": once}


def _guided(denoise: Denoise, row: Row, model: Any, batch: Batch, guide: ClassifierTraining | None, settings: SpeedSettings) -> Denoise:
    """The denoiser with a row's classifier or image guide around it."""
    if guide is not None:
        classifier = guide.classifier.eval().requires_grad_(False)
        denoise = classifier_guide(model.process, classifier, batch["label"], float(row.sampling["classifier_scale"]))(denoise)
    if "guide_scale" in row.sampling:
        lpips = LPIPS().to(settings.device)
        lpips.loaded = True  # random VGG16 weights
        target = batch["low_res"]
        towards = perceptual(target, reduced_to(target.shape[2], target.shape[3]), lpips)
        denoise = image_guided(denoise, model.decode, towards, float(row.sampling["guide_scale"]), model.process)
    return denoise


def _training_step(module: DiffusionTraining, batch: Batch, settings: SpeedSettings) -> Piece:
    """One training step: encode, forward, backward, update."""
    (optimizer,) = module.configure_optimizers()
    random = StepRNG(0, 0, batch["id"])

    def train() -> None:
        with sampling_context(settings.precision, settings.device):
            module.update(batch, random)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return train
