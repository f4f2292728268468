"""The job that all sampling scripts do: sample in batches under one set of flags, and write what comes out."""

import argparse
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ldm import __version__
from ldm.checkpoint.load import LoadedModel
from ldm.checkpoint.source import trained_size
from ldm.cli.flags import WITH
from ldm.cli.from_flags import load_from_flags, settings_from_flags, worse_from_flags
from ldm.cli.pictures import settings_of, write_png
from ldm.cli.requests import advice, part_reading, reads, refuse_others
from ldm.data.batch import Batch
from ldm.diffusion.sampling import last_part
from ldm.diffusion.tiling import Tiles
from ldm.errors import UserError, out_of_memory
from ldm.model import LatentDiffusion
from ldm.precision import sampling_context
from ldm.sampling.generate import SamplerSettings, generate
from ldm.sampling.options import SamplingOptions
from ldm.system.progress import Steps

Steer = Callable[[Batch], SamplingOptions]  # for the conditions of one batch
log = logging.getLogger(__name__)
UNKNOWN_SIZE = 256  # of images in pixels, if the config's data does not give it, as in the paper
UNKNOWN_WINDOW = 512  # the same for tiles of larger images: a size on which most of the paper's models work
OVERLAP = 0.25  # default overlap of automatic tiles, as a share: a quarter of it is context, and half a tile would cost 3 times more
ALWAYS = (
    "seed",
    "precision",
    "batch",
    "raw",
    "window",
    "overlap",
    "negative",
    "autoguide",
    "init",
    "guide",
    "classifier",
    "tokenizer",
    "first_stage",
    "masks",
)


@dataclass
class Job:
    """A model, settings and a place to write.

    Attributes:
        flags: the command line.
        loaded: the model on its device.
        settings: of the sampler.
        outdir: made when the job opens.
        steps: shows how far it is.
        worse: the model of `--autoguide`.
    """

    flags: argparse.Namespace
    loaded: LoadedModel
    settings: SamplerSettings
    outdir: Path
    steps: Steps = field(default_factory=Steps)
    worse: LoadedModel | None = None

    @classmethod
    def open(cls, flags: argparse.Namespace, scale: float | None = None) -> "Job":
        """Load what the flags name; `scale` of guidance where neither flag nor config has one.

        Raises:
            MissingFile, UserError: a model, a number or a folder that cannot be used.
        """
        if flags.n < 1:
            raise UserError(f"--n {flags.n}: expected at least 1")
        loaded = load_from_flags(flags)
        settings = settings_from_flags(flags, loaded.config)
        if scale is not None and flags.scale is None and "scale" not in (loaded.config.get("sampling") or {}):
            settings = replace(settings, scale=scale)
        if flags.autoguide is not None and settings.scale == 1.0:
            raise UserError("--autoguide works through guidance: give a --scale other than 1")
        return cls(flags, loaded, settings, output_folder(flags.outdir), worse=worse_from_flags(flags, loaded))

    @property
    def model(self) -> LatentDiffusion:
        return self.loaded.model

    def part_for(self, key: str, what: str) -> Any:
        """The conditioner that reads a batch key; `what` names that in messages.

        Raises:
            UserError: there is none, or the model reads more than this script has flags for.
        """
        part = part_reading(self.model, key)
        if part is None:
            raise UserError(f"this model reads {reads(self.model)}, not {what}{advice(self.model)}")
        refuse_others(self.model, (*part.reads, *(("label", "caption") if hasattr(self.flags, "classes") else ())))
        return part

    def size(self) -> tuple[int, int]:
        """Height and width: the flags, else the size in training."""
        trained = trained_size(self.loaded.config) or UNKNOWN_SIZE
        height, width = (trained if asked is None else asked for asked in (self.flags.height, self.flags.width))
        self.model.latent_shape(height, width)  # a wrong size is known before anything else is read
        return height, width

    def for_sizes(self, sizes: Sequence[tuple[int, int]]) -> "Job":
        """This job for images of these heights and widths: in tiles if one is larger than in training, unless the flags say otherwise."""
        flags, unit = self.flags, self.model.size_multiple
        window = max(-(-self.trained_side() // unit), 2) * unit
        if flags.whole and (flags.window, flags.overlap) != (None, None):
            raise UserError("--whole disables tiles: leave out --window and --overlap")
        chosen = flags.whole or flags.window is not None or flags.overlap is not None
        if chosen or max(map(max, sizes)) <= window or "boxes" in self.model.conditioner.reads:
            return self
        overlap = max(1, round(window * OVERLAP / unit)) * unit
        return replace(self, flags=argparse.Namespace(**{**vars(flags), "window": window, "overlap": overlap, "by_itself": True}))

    def trained_side(self) -> int:
        """Side of the training images, in pixels."""
        return trained_size(self.loaded.config) or UNKNOWN_WINDOW

    def windows_at(self, size: tuple[int, int]) -> Tiles | None:
        """The tiles for images of a height and width; None if one tile is enough."""
        windows = self.windows()
        return None if windows is None or max(size) <= self.flags.window else windows

    def in_windows(self, sizes: Sequence[tuple[int, int]]) -> str:
        """Note for the user on images that are sampled in tiles automatically."""
        if not getattr(self.flags, "by_itself", False):
            return ""
        count = sum(max(size) > self.flags.window for size in sizes)
        text = (
            f"{count} of {len(sizes)} {'is' if count == 1 else 'are'} larger than the {self.trained_side()} pixels of training: "
            f"in tiles of {self.flags.window} that overlap by {self.flags.overlap} (--whole: at once, with more memory)"
        )
        log.info("%s", text)  # now, for they take long, and with the result
        return f"; {text}"

    def windows(self) -> Tiles | None:
        """The tiles of `--window` and `--overlap`.

        Raises:
            UserError: sizes that the model does not support.
        """
        if self.flags.window is None:
            if self.flags.overlap is not None:
                raise UserError("--overlap goes with --window")
            return None
        if "boxes" in self.model.conditioner.reads:  # every tile would be conditioned on the whole layout
            raise UserError("--window: boxes are positions in the whole image, and each tile would show them all: leave it out")
        f, unit = self.model.first_stage.factor, self.model.size_multiple
        if self.flags.window < 2 * unit and self.flags.overlap is None:
            raise UserError(f"--window {self.flags.window}: expected at least {2 * unit}, so that half of it can overlap")
        half = self.flags.window // (2 * unit) * unit
        overlap = half if self.flags.overlap is None else self.flags.overlap
        if self.flags.window % unit or overlap % unit:
            raise UserError(f"--window {self.flags.window} --overlap {overlap}: this model needs multiples of {unit}")
        try:
            return Tiles(self.flags.window // f, overlap // f, self.flags.batch, unit // f, self.steps.piece)
        except ValueError as error:
            raise UserError(f"--window {self.flags.window} --overlap {overlap}: {error}") from error

    def record(self, **more: Any) -> dict[str, Any]:
        """What the PNGs say: enough to make the same image again."""
        keys = [*ALWAYS, *(key for key, other in WITH.items() if getattr(self.flags, other, key) is not None)]
        flags = {key: value for key in keys if (value := getattr(self.flags, key, None)) is not None}
        weights = {"model": str(self.loaded.path), "sha256": self.loaded.sha256, "step": self.loaded.step}
        device = {"device": self.model.device.type, "version": __version__}
        if self.worse is not None:
            flags["autoguide_sha256"] = self.worse.sha256
        settings = {key: value for key, value in asdict(self.settings).items() if value is not None}
        return {**weights, **flags, **settings, **device, **more}

    def check_free(self, name: str, record: dict[str, Any]) -> None:
        """Whether a picture may be written; the same one may always be written again.

        Raises:
            UserError: another one is there.
        """
        path = self.outdir / name
        if path.exists() and not self.flags.overwrite and settings_of(path) != json.loads(json.dumps(record)):
            raise UserError(f"--outdir {self.outdir}: {name} is there, made with other settings: name another folder, or add --overwrite")

    def write(self, name: str, image: Tensor | Image.Image, record: dict[str, Any], like: Image.Image | None = None) -> None:
        """A picture in the output folder, with its settings; in the colours of another picture if asked to.

        Raises:
            UserError: another one is there.
        """
        self.check_free(name, record)
        write_png(self.outdir / name, image, record, like)

    @contextmanager
    def progress(self, batches: int, done: int = 0) -> Iterator[Callable[[], None]]:
        """What shows all steps of all batches, some of which were done before; yields what to call after each."""
        strength = self.flags.strength if getattr(self.flags, "init", None) else 1.0
        try:
            times = last_part(self.settings.times(self.model.process), strength)
        except ValueError as error:
            raise UserError(str(error)) from error
        steps = len(times) - 1
        with self.steps.shown(batches * steps, done * steps):
            yield self.steps.step

    def sample(self, batch: Batch, numbers: Sequence[int], size: tuple[int, int], steering: SamplingOptions) -> Tensor:
        """Images `(B, C, H, W)` in [-1, 1] on the CPU.

        Raises:
            UserError: they are not finite, or memory does not suffice.
        """
        if self.worse is not None:
            steering = replace(steering, worse=self.worse.model)
        try:
            with sampling_context(self.flags.precision, self.model.device):
                images = generate(self.model, batch, numbers, size, self.settings, self.flags.seed, steering).cpu()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise UserError(
                f"memory does not suffice for {len(numbers)} images of {size[1]}x{size[0]} at a time: "
                "give a smaller --batch or a --window, or --precision bf16"
            ) from error
        if not torch.isfinite(images).all():
            raise UserError(
                f"images {numbers[0]} to {numbers[-1]} are not finite in {self.flags.precision}: sample with --precision fp32"
                + (", or with less guidance" if steering.guides else "")
            )
        return images


def output_folder(name: str) -> Path:
    """The folder to write to, made if need be.

    Raises:
        UserError: it cannot be.
    """
    try:
        Path(name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--outdir {name}: cannot be made a folder ({error.strerror})") from error
    if not os.access(name, os.W_OK):
        raise UserError(f"--outdir {name}: no permission to write there")
    return Path(name)
