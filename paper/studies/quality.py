"""Quality and speed of the study's models: samples against held-out scenes, one record per model, checkpoint and number of steps."""

import json
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from demos.caption_checker import share_right
from demos.conditions import caption_of
from demos.measured import rounded
from demos.run import BATCH, load_run, reconstructed, sample, setting
from ldm.data.grid import save_grid
from ldm.data.sources.scenes import PLACED, Scenes
from ldm.evaluation.distances import frechet
from ldm.evaluation.extractors import load_demo
from ldm.evaluation.features import of_images
from ldm.evaluation.paired import psnr
from ldm.system.files import write_text
from ldm.system.run_folder import step_of
from ldm.system.weights import fingerprint, read_metadata
from paper.studies.settings import REFERENCE, SPEEDS, STEPS, Study
from paper.studies.stages import run_of

SIZE, SHOWN, GROUPS = 32, 16, 10
REFERENCE_SEED, FLOOR_SEED = 1, 2  # of held-out scenes


def held_out(count: int, seed: int) -> Scenes:
    """Scenes of one object that no model saw."""
    return Scenes(count, SIZE, "validation", seed, two_objects=0.0, give=["label"], label_classes="shape_colour_place")


def labels_of(count: int) -> Tensor:
    """Requested classes `(count,)`: all equally often if `count` is a multiple of 96."""
    return torch.arange(count) % len(PLACED)


class Bench:
    """Measures samples by their Frechet distance to held-out scenes and by the pixel checker.

    Args:
        outdir: of the study; the extractor's weights are kept there.
        samples: number of samples per measurement.
    """

    def __init__(self, outdir: Path, samples: int) -> None:
        self.outdir, self.samples = outdir, samples
        self.extractor = load_demo(outdir / "demo-extractor.safetensors")

    @cached_property
    def reference(self) -> Tensor:
        """Features of the held-out scenes."""
        scenes = held_out(REFERENCE, REFERENCE_SEED)
        return of_images(self.extractor, torch.stack([scenes[i]["image"] for i in range(REFERENCE)]))

    @cached_property
    def others(self) -> tuple[Tensor, list[str]]:
        """As many other held-out scenes as a measurement has samples, and their captions."""
        scenes = held_out(self.samples, FLOOR_SEED)
        images = torch.stack([scenes[i]["image"] for i in range(self.samples)])
        return images, [caption_of(scenes[i]["label"]) for i in range(self.samples)]

    def quality(self, images: Tensor, captions: list[str]) -> dict[str, Any]:
        """FD (demo features) with its standard error, and shares of the checker."""
        found = frechet(of_images(self.extractor, images), self.reference, GROUPS, few=True)
        shares = share_right(images, captions)
        return {
            "fd": found.value,
            "fd_spread": found.spread,
            "right": shares.pop("all"),
            "right_by_property": shares,
            **({"fewer_samples_than": found.parameters["fewer_than"]} if found.parameters else {}),
        }

    def protocol(self) -> dict[str, Any]:
        """What every number of the study has in common."""
        return {
            "metric": f"{self.extractor.frechet}: a Frechet distance over a small network trained here; it is not FID",
            "extractor": self.extractor.name,
            "extractor_sha256": self.extractor.sha256,
            "reference": f"{REFERENCE} held-out scenes of one object at {SIZE}x{SIZE}, split validation, seed {REFERENCE_SEED}",
            "reference_features_sha256": fingerprint({"features": self.reference}),
            "fd_spread": f"standard error over the choice of samples, {GROUPS} groups left out in turn",
            "samples": self.samples,
            "classes": f"{len(PLACED)}, in turn",
            "image_format": "8 bit, not resized",
            "right": "share of samples in which the pixel checker finds the requested object, its colour and place, and nothing else",
        }


def checkpoints(run: Path) -> list[Path]:
    """Averaged weights of a run, in the order of training."""
    return sorted((run / "checkpoints").glob("step-*.ema.safetensors"), key=step_of)


def kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Read a record if it exists, else make and write it."""
    if not file.is_file():
        write_text(file, json.dumps(rounded(make()), indent=2) + "\n")
    return json.loads(file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def wanted(run: Path) -> list[tuple[Path, int]]:
    """Checkpoints to measure with their sampling steps: all, and the last one with other numbers of steps."""
    found = checkpoints(run)
    return [(file, STEPS) for file in found] + [(found[-1], steps) for steps in SPEEDS if steps != STEPS]


def measure_samples(bench: Bench, factor: int, file: Path, steps: int) -> dict[str, Any]:
    """Sample from a checkpoint, timed, and measure."""

    def make() -> dict[str, Any]:
        loaded = load_run(file)
        labels = labels_of(bench.samples)
        sample(loaded, {"label": labels[:8]}, min(8, len(labels)), SIZE, seed=1, steps=steps)  # warm-up
        begun = time.perf_counter()
        images = sample(loaded, {"label": labels}, bench.samples, SIZE, seed=0, steps=steps)
        seconds = time.perf_counter() - begun
        if file == checkpoints(file.parents[1])[-1]:
            save_grid(images[:: max(1, len(images) // SHOWN)][:SHOWN], picture(bench.outdir, factor, steps), columns=SHOWN)
        return {
            "factor": factor,
            "training_seconds": read_metadata(file)["seconds"],
            "step": loaded.step,
            "steps": steps,
            **bench.quality(images, [caption_of(label) for label in labels.tolist()]),
            "sampling_seconds": seconds,
            "images_per_second": bench.samples / seconds,
            "batch": min(BATCH, bench.samples),
            "seed": 0,
            **setting(loaded),
            "sampling": {**loaded.config["sampling"], "steps": steps},
        }

    return kept(bench.outdir / "measured" / f"ldm-{factor}-step-{step_of(file)}-ddim-{steps}.json", make)


def picture(outdir: Path, factor: int, steps: int) -> Path:
    """A row of samples of the last checkpoint."""
    return outdir / "measured" / f"ldm-{factor}-ddim-{steps}.png"


def measure_floor(bench: Bench) -> dict[str, Any]:
    """Other held-out scenes instead of samples: the best that a model can reach with this number of samples."""
    return kept(bench.outdir / "measured" / "floor.json", lambda: {"samples": bench.samples, **bench.quality(*bench.others)})


def measure_first_stage(bench: Bench, factor: int, run: Path) -> dict[str, Any]:
    """The same scenes encoded and decoded: the best that a second stage on this first stage can reach."""

    def make() -> dict[str, Any]:
        loaded = load_run(checkpoints(run)[-1])
        images, captions = bench.others
        again = reconstructed(loaded, images)
        network = sum(p.numel() for p in loaded.model.network.parameters())
        size = loaded.model.first_stage.latent_shape(SIZE, SIZE)
        quality = {f"r_{key}": value for key, value in bench.quality(again, captions).items()}
        sha256 = loaded.model.first_stage.sha256
        psnr_db = float(psnr(again, images).mean())
        return {"latent": list(size), "network_parameters": network, **quality, "psnr_db": psnr_db, "first_stage_sha256": sha256}

    return kept(bench.outdir / "measured" / f"first-stage-{factor}.json", make)


def measure_all(outdir: Path, study: Study, report: Callable[[str], None]) -> dict[str, Any]:
    """All measurements of the study, of which existing ones are read; `report` is called with a line before each."""
    report("extractor and reference")
    bench = Bench(outdir, study.samples)
    found: dict[str, Any] = {"protocol": bench.protocol(), "floor": measure_floor(bench), "models": {}}
    for factor in study.factors:
        run = run_of(outdir, f"ldm-{factor}")
        report(f"first stage, f={factor}")
        model: dict[str, Any] = {"first_stage": measure_first_stage(bench, factor, run), "run": str(run), "measured": []}
        for file, steps in wanted(run):
            report(f"LDM-{factor}, step {step_of(file)}, {steps} DDIM steps")
            model["measured"].append(measure_samples(bench, factor, file, steps))
        found["models"][str(factor)] = model
    return found
