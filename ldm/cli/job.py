"""The job of all sampling scripts: sample in batches under one set of flags, and write the images with their settings."""

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ldm import __version__
from ldm.checkpoint.guides import load_classifier, load_worse
from ldm.checkpoint.load import LoadedModel, load_model
from ldm.checkpoint.source import trained_size
from ldm.cli.condition_flags import advice, conditioner_for, reads, refuse_others
from ldm.cli.parser import WITH
from ldm.cli.pictures import settings_of, write_png
from ldm.config import AllowedTargets, trust_packages
from ldm.data.batch import Batch
from ldm.data.classes import Classes, class_names
from ldm.diffusion.sampling import last_part
from ldm.errors import MissingFile, UserError, out_of_memory
from ldm.model import LatentDiffusion
from ldm.networks import NoisyClassifier
from ldm.precision import for_sampling, sampling_context
from ldm.sampling.generate import SamplerSettings, generate, sampler_named, takes_eta
from ldm.sampling.options import SamplingOptions
from ldm.system.device import pick_device, pick_devices
from ldm.system.progress import Steps

UNKNOWN_SIZE = 256  # of images in pixels, if the config's data does not give it, as in the paper
RECORDED = (  # flags that PNGs name in addition to the sampler settings
    *("seed", "precision", "batch", "raw", "window", "overlap", "negative", "autoguide", "init", "guide", "classifier"),
    *("tokenizer", "first_stage", "masks"),
)


@dataclass
class Job:
    """A model, settings and a folder to write to.

    Attributes:
        flags: the command line.
        loaded: the model on its device.
        settings: of the sampler.
        outdir: created when the job opens.
        worse: the model of `--autoguide`.
        classifier: the one of `--classifier`.
        classifier_config: the config it was trained with.
        steps: shows the progress.
    """

    flags: argparse.Namespace
    loaded: LoadedModel
    settings: SamplerSettings
    outdir: Path
    worse: LoadedModel | None = None
    classifier: NoisyClassifier | None = None
    classifier_config: dict[str, Any] = field(default_factory=dict)
    steps: Steps = field(default_factory=Steps)

    @classmethod
    def open(cls, flags: argparse.Namespace, scale: float | None = None) -> "Job":
        """Load what the flags name; `scale` is the default of guidance if the config has none.

        Raises:
            MissingFile, UserError: a model, a number or a folder that cannot be used.
        """
        loaded = load_from_flags(flags)
        if flags.scale is None and "scale" not in (loaded.config.get("sampling") or {}):
            flags.scale = scale
        settings = settings_from_flags(flags, loaded.config)
        for name in ("autoguide", "negative"):
            if getattr(flags, name, None) is not None and settings.scale == 1.0:
                raise UserError(f"--{name} works through guidance: give a --scale other than 1")
        job = cls(flags, loaded, settings, output_folder(flags.outdir))
        trust, other = AllowedTargets(tuple(flags.trust)), flags.allow_other_first_stage
        if flags.autoguide is not None:
            job.worse = load_worse(flags.autoguide, loaded, other, trust, flags.raw, flags.tokenizer)
            job.worse.model.to(job.model.device).requires_grad_(False)
        if getattr(flags, "classifier", None) is not None:
            job.classifier, job.classifier_config = load_classifier(flags.classifier, loaded, other, flags.raw, trust)
        return job

    @property
    def model(self) -> LatentDiffusion:
        return self.loaded.model

    def names(self, key: str) -> list[str]:
        """Names of the classes that the model knows by a batch key; empty if it was stored without them."""
        return class_names(self.loaded.config).get(key, [])

    def classes(self) -> Classes:
        """The classes by which images are sampled: those that the model, and the classifier that guides it, both have."""
        part, classifier = conditioner_for(self.model, "label"), self.classifier
        counts = [*([int(part.keys["label"].high) + 1] if part else []), *([classifier.classes] if classifier else [])]
        names = self.names("label") if part else class_names(self.classifier_config).get("label", [])
        return Classes(min(counts, default=0), names)

    def conditioner_for(self, key: str, what: str) -> Any:
        """The conditioner that reads a batch key; `what` names that in messages.

        Raises:
            UserError: there is none, or the model reads more than this script has flags for.
        """
        part = conditioner_for(self.model, key)
        if part is None:
            raise UserError(f"this model reads {reads(self.model)}, not {what}{advice(self.model)}")
        refuse_others(self.model, (*part.reads, *(("label", "caption") if hasattr(self.flags, "classes") else ())))
        return part

    def size(self) -> tuple[int, int]:
        """Height and width: the flags, else the size in training."""
        trained = trained_size(self.loaded.config) or (UNKNOWN_SIZE, UNKNOWN_SIZE)
        flags = self.flags.height, self.flags.width
        height, width = (known if flag is None else flag for flag, known in zip(flags, trained, strict=True))
        self.model.latent_shape(height, width)  # a wrong size is reported before anything else is read
        return height, width

    def record(self, **more: Any) -> dict[str, Any]:
        """What the PNGs say: enough to sample the same image again."""
        keys = [*RECORDED, *(key for key, other in WITH.items() if getattr(self.flags, other, key) is not None)]
        flags = {key: value for key in keys if (value := getattr(self.flags, key, None)) is not None}
        weights = {"model": str(self.loaded.path), "sha256": self.loaded.sha256, "step": self.loaded.step}
        device = {"device": self.model.device.type, "version": __version__}
        if self.worse is not None:
            flags["autoguide_sha256"] = self.worse.sha256
        settings = {key: value for key, value in asdict(self.settings).items() if value is not None}
        return {**weights, **flags, **settings, **device, **more}

    def check_free(self, name: str, record: dict[str, Any]) -> None:
        """Check that a picture may be written: there is none of that name, or one with the same settings.

        Raises:
            UserError: there is another one.
        """
        path = self.outdir / name
        if path.exists() and not self.flags.overwrite and settings_of(path) != json.loads(json.dumps(record)):
            raise UserError(f"--outdir {self.outdir}: {name} exists, made with other settings: name another folder, or add --overwrite")

    def write(self, name: str, image: Tensor | Image.Image, record: dict[str, Any], like: Image.Image | None = None) -> None:
        """Write a picture with its settings to the output folder; with the colour profile of `like`.

        Raises:
            UserError: there is another one.
        """
        self.check_free(name, record)
        write_png(self.outdir / name, image, record, like)

    @contextmanager
    def progress(self, batches: int, done: int = 0) -> Iterator[Callable[[], None]]:
        """Progress over all steps of all batches, some of which are done; yields what to call after each step."""
        strength = self.flags.strength if getattr(self.flags, "init", None) else 1.0
        try:
            steps = len(last_part(self.settings.times(self.model.process), strength)) - 1
        except ValueError as error:
            raise UserError(str(error)) from error
        with self.steps.shown(batches * steps, done * steps):
            yield self.steps.step

    def sample(self, batch: Batch, numbers: Sequence[int], size: tuple[int, int], options: SamplingOptions) -> Tensor:
        """Images `(B, C, H, W)` in [-1, 1] on the CPU.

        Raises:
            UserError: they are not finite, or there is not enough memory.
        """
        if self.worse is not None:
            options = replace(options, worse=self.worse.model)
        try:
            with sampling_context(self.flags.precision, self.model.device):
                images = generate(self.model, batch, numbers, size, self.settings, self.flags.seed, options).cpu()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise UserError(
                f"not enough memory for {len(numbers)} images of {size[1]}x{size[0]} at a time: "
                "give a smaller --batch or a --window, or --precision bf16"
            ) from error
        if not torch.isfinite(images).all():
            raise UserError(
                f"images {numbers[0]} to {numbers[-1]} are not finite in {self.flags.precision}: sample with --precision fp32"
                + (", or with less guidance" if options.guides else "")
            )
        return images


def load_from_flags(flags: argparse.Namespace) -> LoadedModel:
    """The model of the first argument, on the requested device."""
    if flags.config is not None and not Path(flags.config).is_file():
        raise MissingFile(f"--config {flags.config}: no such file")
    trust_packages(flags.trust)
    device = pick_devices(flags.device)[0] if hasattr(flags, "processes") else pick_device(flags.device)
    flags.precision = for_sampling(flags.precision, device)  # what is recorded is the one used
    trust, other = AllowedTargets(tuple(flags.trust)), flags.allow_other_first_stage
    loaded = load_model(flags.model, flags.first_stage, other, trust, flags.config, flags.raw, flags.tokenizer)
    loaded.model.to(device).requires_grad_(False)
    return loaded


def settings_from_flags(flags: argparse.Namespace, config: dict[str, Any]) -> SamplerSettings:
    """The flags, where given, over the config's `sampling:`."""
    keys = [field.name for field in fields(SamplerSettings)]
    chosen = {key: value for key, value in (config.get("sampling") or {}).items() if key in keys}
    chosen |= {key: getattr(flags, key) for key in keys if getattr(flags, key) is not None}
    if flags.eta is None and not takes_eta(sampler_named(chosen.get("sampler", "ddim"))):
        chosen.pop("eta", None)
    return SamplerSettings(**chosen)


def output_folder(name: str) -> Path:
    """The folder to write to, created if it does not exist.

    Raises:
        UserError: it cannot be created or written to.
    """
    try:
        Path(name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--outdir {name}: cannot be made a folder ({error.strerror})") from error
    if not os.access(name, os.W_OK):
        raise UserError(f"--outdir {name}: no permission to write there")
    return Path(name)
