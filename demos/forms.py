"""The text demo in three forms in equal training time: a UNet that predicts v, the same UNet as a flow, and a DiT as a flow."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from demos.caption_checker import share_right
from demos.run import load_run, runs_of, sample, setting, train
from ldm.checkpoint.load import LoadedModel
from ldm.config import literal
from ldm.data.sources.scenes import Scenes
from ldm.evaluation.distances import frechet
from ldm.evaluation.extractors import load_demo
from ldm.evaluation.features import of_images
from ldm.system.files import write_text

FORMS = {"text": "UNet, v", "text-flow": "UNet, flow", "text-dit": "DiT, flow"}
STEPS, SEEDS, SAMPLERS = (4, 8, 20), (0, 1, 2), {"text": "dpm_solver", "text-flow": "euler", "text-dit": "euler"}


def compare_forms(outdir: Path, count: int, overrides: list[str]) -> dict[str, Any]:
    """Train what is not trained yet in a folder, measure all of it, and write a table; the summary."""
    logs = outdir / "logs"
    first = trained("text-first-stage", logs, overrides)
    stages = {name: trained(name, logs, [*overrides, f"paths.first_stage={literal(first)}"]) for name in FORMS}
    bench = Bench(outdir, count)
    summary: dict[str, Any] = {
        "prompts": len(bench.captions),
        "sampling_seeds": list(SEEDS),
        "metric": bench.extractor.frechet,
        "forms": {},
    }
    for name, run in stages.items():
        loaded = load_run(run)
        rows = {steps: bench.measure(loaded, SAMPLERS[name], steps) for steps in STEPS}
        network = sum(p.numel() for p in loaded.model.network.parameters())
        summary["forms"][name] = {"network_parameters": network, "steps": rows, **setting(loaded)}
    write_text(outdir / "summary.json", json.dumps(summary, indent=2) + "\n")
    sys.stdout.write(table(summary))
    return summary


def trained(name: str, logs: Path, overrides: list[str]) -> Path:
    """The finished run of a demo config in a folder, else a new one."""
    done = [run for run in runs_of(name, logs) if (run / "report.done").is_file()]
    if done:
        return done[-1]
    run, seconds = train(name, logs, overrides)
    write_text(run / "report.done", f"{seconds:.1f}\n")
    return run


class Bench:
    """Held-out captions, and the features of the scenes they belong to."""

    def __init__(self, outdir: Path, count: int) -> None:
        self.extractor = load_demo(outdir / "demo-extractor.safetensors")
        scenes = Scenes(2 * count, split="validation", seed=1)
        samples = [scenes[i] for i in range(2 * count)]
        self.size, self.captions = scenes.size, [one["caption"] for one in samples[:count]]
        self.reference = of_images(self.extractor, torch.stack([one["image"] for one in samples[count:]]))

    def measure(self, loaded: LoadedModel, sampler: str, steps: int) -> dict[str, Any]:
        """Share right and Frechet distance over the sampling seeds: their means and standard deviations."""
        config = {**loaded.config, "sampling": {"sampler": sampler, "steps": steps, "scale": loaded.config["sampling"]["scale"]}}
        right, distance = [], []
        for seed in SEEDS:
            images = sample(replace(loaded, config=config), {"caption": self.captions}, len(self.captions), self.size, seed)
            right.append(share_right(images, self.captions)["all"])
            distance.append(frechet(of_images(self.extractor, images), self.reference, few=True).value)
        return {
            "sampler": sampler,
            "right": mean(right),
            "right_std": stdev(right),
            "fd": mean(distance),
            "fd_std": stdev(distance),
        }


def table(summary: dict[str, Any]) -> str:
    """The summary as a table in Markdown."""
    head = "".join(f" {steps} steps: right | FD |" for steps in STEPS)
    lines = [f"| form | network |{head}", "|---|---|" + "---|---|" * len(STEPS)]
    for name, form in summary["forms"].items():
        cells = "".join(
            f" {row['right']:.1%} +- {row['right_std']:.1%} | {row['fd']:.1f} +- {row['fd_std']:.1f} |" for row in form["steps"].values()
        )
        lines.append(f"| {FORMS[name]} | {form['network_parameters'] / 1e6:.1f} M |{cells}")
    return "\n".join(lines) + "\n"
