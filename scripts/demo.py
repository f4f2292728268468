"""The demos: train both stages with main.py as a user would, sample, measure, and write a page."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ldm.cli import run_script  # noqa: E402
from ldm.data.digits import load_digits  # noqa: E402
from ldm.data.scenes import Scenes  # noqa: E402
from ldm.errors import UserError  # noqa: E402
from ldm.evaluation import digits as digit_measures  # noqa: E402
from ldm.evaluation.page import write_page  # noqa: E402
from ldm.evaluation.scenes import share_right  # noqa: E402
from ldm.files import write_text  # noqa: E402
from ldm.generation import SamplerSettings, generate  # noqa: E402
from ldm.loading import LoadedModel, load_model, pick_device, precision_context  # noqa: E402
from ldm.training.monitor import save_grid  # noqa: E402
from ldm.training.settings import native_cpu_bf16  # noqa: E402

BATCH = 100


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("demo", choices=["digits", "text"], help="handwritten digits by class, or coloured shapes by caption")
    p.add_argument("--outdir", help="where to write (default: outputs/demo or outputs/demo-text)")
    p.add_argument("--samples", type=int, default=1000, help="digits to measure, or prompts of each kind times three (default: 1000)")
    p.add_argument("overrides", nargs="*", metavar="key.sub=value", help="passed on to both training commands")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_intermixed_args(arguments)
    if flags.samples < 40:
        raise UserError(f"--samples {flags.samples}: expected at least 40")
    outdir = Path(flags.outdir or {"digits": "outputs/demo", "text": "outputs/demo-text"}[flags.demo])
    outdir.mkdir(parents=True, exist_ok=True)
    first, first_seconds = train(f"{flags.demo}-first-stage", outdir, flags.overrides)
    second, second_seconds = train(flags.demo, outdir, [*flags.overrides, f"paths.first_stage={first}"])
    loaded = load_model(str(second))
    loaded.model.to(pick_device())
    begun = time.perf_counter()
    measure: Callable[[LoadedModel, Path, int], tuple[dict[str, Any], Any, Any]]
    measure = measure_digits if flags.demo == "digits" else measure_scenes
    results, numbers, pictures = measure(loaded, outdir, flags.samples)
    summary = {
        "training_seconds": round(first_seconds + second_seconds, 1),
        "first_stage_seconds": round(first_seconds, 1),
        "second_stage_seconds": round(second_seconds, 1),
        "sampling_and_measuring_seconds": round(time.perf_counter() - begun, 1),
        **results,
        "sampling": loaded.config["sampling"],
        "device": str(loaded.model.scale.device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "first_stage_run": str(first),
        "run": str(second),
        "weights_sha256": loaded.sha256,
        "not_used": "LPIPS and the patch discriminator are switched off in the demos: their weights would be a download",
    }
    write_text(outdir / "summary.json", json.dumps(summary, indent=2) + "\n")
    timing = ("training_seconds", f"{summary['training_seconds']:.0f}", "wall time of both training commands, start-up included")
    title = {"digits": "Handwritten digits, by class", "text": "Coloured shapes, by caption"}[flags.demo]
    intro = "Every image here was made by a latent diffusion model that was trained a moment ago, from two YAML files."
    intro += f" {summary['not_used']}."
    write_page(outdir / "index.html", title, intro, [timing, *numbers], pictures)
    sys.stdout.write("\n".join(f"{name:<24}{value:<10}{how}" for name, value, how in [timing, *numbers]) + "\n")
    sys.stdout.write(f"see {outdir / 'index.html'}, {outdir / 'samples.png'} and {outdir / 'summary.json'}\n")
    return 0


def train(config: str, outdir: Path, overrides: list[str]) -> tuple[Path, float]:
    """Run main.py on a demo config; the run folder and the seconds it took.

    Raises:
        UserError: if training failed (main.py has said why).
    """
    command = ["main.py", "--base", f"configs/demo/{config}.yaml", "--train", "--logdir", str((outdir / "logs").resolve()), *overrides]
    sys.stderr.write(f"\npython {' '.join(command)}\n")
    begun = time.perf_counter()
    code = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
    if code:
        raise UserError(f"training {config} ended with exit code {code}")
    runs = [run for run in (outdir / "logs").resolve().iterdir() if run.name.split("_", 1)[-1] == config]
    return max(runs, key=lambda run: run.stat().st_mtime), time.perf_counter() - begun


def sample(loaded: LoadedModel, condition: dict[str, Any], count: int, size: int, seed: int) -> Tensor:
    """`count` images for a condition of as many entries, `(count, C, size, size)`."""
    model, settings = loaded.model, SamplerSettings(**loaded.config["sampling"])
    device = model.scale.device
    bf16 = device.type == "cuda" or (device.type == "cpu" and native_cpu_bf16())
    images = []
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        part = {key: value[numbers.start : numbers.stop] for key, value in condition.items()}
        with precision_context("bf16" if bf16 else "fp32", device):
            images.append(generate(model, part, numbers, (size, size), settings, seed).cpu())
    return torch.cat(images)


def measure_digits(loaded: LoadedModel, outdir: Path, count: int) -> tuple[dict[str, Any], Any, Any]:
    """Sample and measure the digits; results, rows for the page, pictures."""
    labels = torch.arange(count) % 10
    images = sample(loaded, {"label": labels}, count, 32, seed=0)
    results: dict[str, Any] = {"samples": count, **digit_measures.measure(images, labels)}
    train_images, _, _ = load_digits("train", 32)
    _, index = digit_measures.nearest(images[:80], train_images)
    save_grid(images[:80], outdir / "samples.png", columns=10)
    pairs = [row for first in range(0, 40, 10) for row in (images[first : first + 10], train_images[index[first : first + 10]])]
    save_grid(torch.cat(pairs), outdir / "nearest.png", columns=10)
    numbers = [
        ("accuracy", f"{results['accuracy']:.1%}", f"{count} samples read as the asked digit by a classifier that saw real digits only"),
        ("accuracy_real", f"{results['accuracy_real']:.1%}", "the same classifier on 360 held-out real digits"),
        ("near_real_share", f"{results['near_real_share']:.1%}", "samples as near to a training digit as 95 % of the held-out ones are"),
        (
            "nearest_distance",
            f"{results['nearest_distance']:.2f}",
            f"to the nearest training digit; held-out digits: {results['nearest_distance_real']:.2f}",
        ),
        (
            "diversity",
            f"{results['diversity']:.2f}",
            f"distance between two samples of a class; held-out digits: {results['diversity_real']:.2f}",
        ),
    ]
    pictures = {
        "Samples, a column per digit": outdir / "samples.png",
        "Samples (odd rows) above their nearest training digit": outdir / "nearest.png",
    }
    return results, numbers, pictures


def measure_scenes(loaded: LoadedModel, outdir: Path, count: int) -> tuple[dict[str, Any], Any, Any]:
    """Sample and measure the scenes; results, rows for the page, pictures."""
    prompts = max(1, count // 3)
    seeds = (0, 1, 2)
    fresh = Scenes(6 * prompts + 100, split="validation", seed=1)
    things = [fresh.scene(i)[0] for i in range(len(fresh))]
    chosen = {n: [i for i, t in enumerate(things) if len(t) == n][:prompts] for n in (1, 2)}
    trained_on = Scenes(**loaded.config["data"]["params"]["train"]["params"])
    seen = {trained_on.caption(i) for i in range(len(trained_on))}
    results: dict[str, Any] = {"prompts_per_kind": prompts, "sampling_seeds": list(seeds)}
    shown = []
    for n, name in ((1, "one_object"), (2, "two_objects")):
        captions = [fresh[i]["caption"] for i in chosen[n]]
        runs = [sample(loaded, {"caption": captions}, len(captions), fresh.size, seed) for seed in seeds]
        shares = [share_right(images, captions) for images in runs]
        results[f"{name}_right"] = mean(s["all"] for s in shares)
        results[f"{name}_right_per_seed"] = [s["all"] for s in shares]
        results[f"{name}_by_property"] = {key: mean(s[key] for s in shares) for key in ("shape", "colour", "place")}
        results[f"{name}_unseen_captions"] = mean(text not in seen for text in captions)
        shown.append((captions, runs[0]))
    real = torch.stack([fresh[i]["image"] for i in chosen[1] + chosen[2]])
    captions = [fresh[i]["caption"] for i in chosen[1] + chosen[2]]
    device = loaded.model.scale.device
    with torch.no_grad():
        again = torch.cat([loaded.model.decode(loaded.model.encode(x.to(device))).float().cpu() for x in real.split(BATCH)])
    results["checker_real"] = share_right(real, captions)["all"]
    results["checker_reconstructions"] = share_right(again, captions)["all"]
    save_grid(torch.cat([images[:32] for _, images in shown]), outdir / "samples.png", columns=8)
    save_grid(torch.cat([real[:16], again[:16]]), outdir / "reconstructions.png", columns=16)
    write_text(outdir / "captions.txt", "\n".join(text for texts, _ in shown for text in texts[:32]) + "\n")
    how = f"{prompts} fresh prompts x {len(seeds)} sampling seeds: shape, colour and place right for every asked object, nothing else there"
    numbers = [
        ("one_object_right", f"{results['one_object_right']:.1%}", how),
        ("two_objects_right", f"{results['two_objects_right']:.1%}", how),
        ("checker_real", f"{results['checker_real']:.1%}", "the pixel checker on real scenes"),
        (
            "checker_reconstructions",
            f"{results['checker_reconstructions']:.1%}",
            "the pixel checker on real scenes through the first stage",
        ),
    ]
    examples = "; ".join(texts[0] for texts, _ in shown)
    pictures = {
        f"Samples, one object above, two below (captions in captions.txt; first of each: {examples})": outdir / "samples.png",
        "Real scenes above their reconstructions": outdir / "reconstructions.png",
    }
    return results, numbers, pictures


if __name__ == "__main__":
    sys.exit(run_script(main))
