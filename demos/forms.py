"""The text demo with three models in equal training time: a UNet with v-prediction, and a UNet and a DiT with rectified flow."""

import json
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from demos.caption_checker import share_right
from demos.run import load_run, sample, setting, train_once
from ldm.checkpoint.load import LoadedModel
from ldm.config import literal
from ldm.data.grid import grid_of, save_named
from ldm.data.sources.scenes import Scenes
from ldm.evaluation.distances import frechet
from ldm.evaluation.extractors import load_demo
from ldm.evaluation.features import of_images
from ldm.evaluation.page import write_page
from ldm.system.files import write_text

FORMS = {"text": "UNet, v", "text-flow": "UNet, flow", "text-dit": "DiT, flow"}
STEPS, SEEDS, SAMPLERS = (4, 8, 20), (0, 1, 2), {"text": "dpm_solver", "text-flow": "euler", "text-dit": "euler"}
SHOWN = 8  # samples in a row of a picture
TITLE = "Three forms of the text demo"
INTRO = "A UNet with v-prediction, and a UNet and a DiT with rectified flow, on the same first stage, trained for about the same time."


def compare_forms(outdir: Path, count: int, overrides: list[str]) -> dict[str, Any]:
    """Train what is not trained yet in a folder, measure all of it, and print a table; returns the summary."""

    def trained(name: str, *more: str) -> Path:
        return train_once(outdir / f"{name}.json", name, outdir / "logs", [*overrides, *more])[0]

    first = f"paths.first_stage={literal(str(trained('text-first-stage')))}"
    stages = {name: trained(name, first) for name in FORMS}
    bench = Bench(outdir, count)
    summary: dict[str, Any] = {
        "prompts": len(bench.captions),
        "sampling_seeds": list(SEEDS),
        "metric": bench.extractor.frechet,
        "forms": {},
    }
    for name, run in stages.items():
        loaded = load_run(run)
        measured = {steps: bench.measure(loaded, SAMPLERS[name], steps) for steps in STEPS}
        rows = {steps: row for steps, (row, _) in measured.items()}
        save_named(outdir / f"{name}.png", grid_of(torch.cat([images for _, images in measured.values()])), bench.captions[:SHOWN])
        network = sum(p.numel() for p in loaded.model.network.parameters())
        summary["forms"][name] = {"network_parameters": network, "steps": rows, **setting(loaded)}
    write_text(outdir / "summary.json", json.dumps(summary, indent=2) + "\n")
    sys.stdout.write(table(summary))
    pictures = {
        f"{form}: {SAMPLERS[name]} with {', '.join(map(str, STEPS))} steps, row by row": outdir / f"{name}.png"
        for name, form in FORMS.items()
    }
    write_page(outdir / "index.html", TITLE, INTRO, numbers(summary), pictures, {FORMS[name]: run for name, run in stages.items()})
    return summary


class Bench:
    """Held-out captions, and features of as many other held-out scenes."""

    def __init__(self, outdir: Path, count: int) -> None:
        self.extractor = load_demo(outdir / "demo-extractor.safetensors")
        scenes = Scenes(2 * count, split="validation", seed=1)
        samples = [scenes[i] for i in range(2 * count)]
        self.size, self.captions = scenes.size, [one["caption"] for one in samples[:count]]
        self.reference = of_images(self.extractor, torch.stack([one["image"] for one in samples[count:]]))

    def measure(self, loaded: LoadedModel, sampler: str, steps: int) -> tuple[dict[str, Any], Tensor]:
        """Mean and standard deviation over the sampling seeds of the share of correct samples and the Frechet distance; some samples."""
        right, distance = [], []
        for seed in SEEDS:
            condition = {"caption": self.captions}
            images = sample(loaded, condition, len(self.captions), self.size, seed, sampler=sampler, steps=steps)
            right.append(share_right(images, self.captions)["all"])
            distance.append(frechet(of_images(self.extractor, images), self.reference, few=True).value)
        shares = {"right": mean(right), "right_std": stdev(right)}
        return {"sampler": sampler, **shares, "fd": mean(distance), "fd_std": stdev(distance)}, images[:SHOWN]


def numbers(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The summary for a page."""
    count, seeds = summary["prompts"], len(summary["sampling_seeds"])
    how = f"correct by the pixel checker; {summary['metric']} to {count} other held-out scenes; mean and deviation over {seeds} seeds"
    return [
        (
            f"{FORMS[name]}, {steps} steps",
            f"{row['right']:.1%} ± {row['right_std']:.1%} correct, FD {row['fd']:.1f} ± {row['fd_std']:.1f} ({count} samples)",
            how,
        )
        for name, form in summary["forms"].items()
        for steps, row in form["steps"].items()
    ]


def table(summary: dict[str, Any]) -> str:
    """The summary as a Markdown table."""
    head = "".join(f" {steps} steps: right | FD of {summary['prompts']} |" for steps in STEPS)
    lines = [f"| form | network |{head}", "|---|---|" + "---|---|" * len(STEPS)]
    for name, form in summary["forms"].items():
        cells = "".join(
            f" {row['right']:.1%} +- {row['right_std']:.1%} | {row['fd']:.1f} +- {row['fd_std']:.1f} |" for row in form["steps"].values()
        )
        lines.append(f"| {FORMS[name]} | {form['network_parameters'] / 1e6:.1f} M |{cells}")
    return "\n".join(lines) + "\n"
