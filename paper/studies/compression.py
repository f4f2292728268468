"""The paper's main claim in small: LDM-1, 2, 4 and 8 with equal parameters and equal time, figures 6 and 7 (Sec. 4.1)."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from demos.measured import rounded
from demos.run import load_run
from ldm.evaluation.page import write_page
from ldm.system.files import write_text
from paper.chart import Axis, draw_chart
from paper.studies.distortion import draw, held_out, rate_distortion
from paper.studies.quality import checkpoints, kept, measure_all, picture
from paper.studies.settings import CODE_STEPS, CODED, STEPS, Study, claim, estimates
from paper.studies.stages import finished_stage, run_of, stage_names, train_stage

FD = "FD (demo features)"
INTRO = (
    "Four models with nearly the same number of parameters were trained here for the same time on procedural scenes, on pixels (LDM-1) and "
    "on latents that are 2, 4 and 8 times smaller on each side. Only second stages are counted: first stages are trained before, in equal "
    "steps. The Frechet distance is over a small network that is trained here; it is not FID. One training each."
)


def plan(outdir: Path, study: Study) -> list[str]:
    """Every step of the study with its estimated seconds, and which are done."""
    parts = estimates(study)
    names = stage_names(study)
    lines = [f"compression study in {outdir}: LDM-{', LDM-'.join(map(str, study.factors))}; estimates are for two CPU cores"]
    for i, (what, seconds) in enumerate(parts):
        done = " (done)" if i < len(names) and finished_stage(outdir, names[i]) else ""
        lines.append(f"  {seconds:6.0f} s  {what}{done}")
    return [*lines, f"  {sum(seconds for _, seconds in parts):6.0f} s  in all, if none of it is done yet"]


def run(outdir: Path, study: Study) -> None:
    """Train and measure what is missing; write figures, summary and page.

    Raises:
        UserError: the folder has a study with other settings, or training failed.
    """
    claim(outdir, study)
    begun = time.perf_counter()

    def report(what: str) -> None:
        sys.stderr.write(f"[{time.perf_counter() - begun:5.0f} s] {what}\n")
        sys.stderr.flush()

    seconds = {}
    for name in stage_names(study):
        report(f"{name}{': done before' if finished_stage(outdir, name) else ''}")
        seconds[name] = train_stage(outdir, name, study)
    found = measure_all(outdir, study, report)
    if 1 in study.factors:
        report("rate and distortion of LDM-1")
        found["rate_distortion"] = kept(outdir / "measured" / "rate-distortion.json", lambda: code_pixels(outdir))
    setting = {"study": study.record(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    write_results(outdir, study, {**setting, "command_seconds": seconds, **found})
    report("done")


def code_pixels(outdir: Path) -> dict[str, Any]:
    """Figure 2 of LDM-1."""
    loaded = load_run(checkpoints(run_of(outdir, "ldm-1"))[-1])
    return rate_distortion(loaded, held_out(loaded, CODED), CODE_STEPS, progress=sys.stderr.isatty())


def write_results(outdir: Path, study: Study, summary: dict[str, Any]) -> None:
    """`summary.json`, the figures, and the page with both."""
    pictures = draw_figures(outdir, summary)
    for factor in study.factors:
        pictures[f"Samples of LDM-{factor} at the end, {STEPS} DDIM steps"] = picture(outdir, factor, STEPS)
    write_text(outdir / "summary.json", json.dumps(rounded(summary), indent=2) + "\n")
    runs = {f"LDM-{factor}": run_of(outdir, f"ldm-{factor}") for factor in study.factors}
    write_page(outdir / "index.html", "What compression is worth: figures 6 and 7 in small", INTRO, rows(summary), pictures, runs)
    for name, value, how in rows(summary):
        sys.stdout.write(f"{name:<38}{value:<10}{how}\n")
    sys.stdout.write(f"see {outdir / 'index.html'} and {outdir / 'summary.json'}\n")


def series(model: dict[str, Any], figure: int) -> list[dict[str, Any]]:
    """Measurements of a model for a figure: of all checkpoints (6), or of the last one with all numbers of steps (7)."""
    measured = model["measured"]
    if figure == 6:
        return [m for m in measured if m["steps"] == STEPS]
    last = max(m["step"] for m in measured)
    return sorted((m for m in measured if m["step"] == last), key=lambda m: -m["steps"])


def draw_figures(outdir: Path, summary: dict[str, Any]) -> dict[str, Path]:
    """The charts, by caption."""
    models = {f"LDM-{factor}": model for factor, model in summary["models"].items()}
    floor = {"held-out scenes": summary["floor"]["fd"]}
    six = {name: [(m["training_seconds"], m["fd"]) for m in series(model, 6)] for name, model in models.items()}
    seven = {name: [(m["images_per_second"], m["fd"]) for m in series(model, 7)] for name, model in models.items()}
    quality = Axis(f"{FD} of {summary['protocol']['samples']} samples, lower is better", log=True)
    draw_chart(outdir / "figure-6.png", six, Axis("training of stage two, seconds"), quality, "Quality and training time", floor)
    title = "Quality and sampling time: 50, 20, 10, 5 DDIM steps"
    draw_chart(outdir / "figure-7.png", seven, Axis("images per second", log=True), quality, title, floor)
    pictures = {"Figure 6 in small": outdir / "figure-6.png", "Figure 7 in small": outdir / "figure-7.png"}
    if "rate_distortion" in summary:
        draw(summary["rate_distortion"], outdir / "figure-2.png", "Rate and distortion of LDM-1")
        pictures["Figure 2 in small: rate and distortion of LDM-1"] = outdir / "figure-2.png"
    return pictures


def rows(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Numbers for the page, each with how it was measured."""
    count = summary["protocol"]["samples"]
    floor = summary["floor"]
    few = f"({count} samples)"
    found = [
        ("held-out scenes", f"{floor['fd']:.3f} {few}", f"{FD} of {count} other held-out scenes: the floor; right {floor['right']:.1%}")
    ]
    for factor, model in summary["models"].items():
        stage, last = model["first_stage"], series(model, 6)[-1]
        size = f"{model['first_stage']['network_parameters'] / 1e6:.2f} M parameters"
        how = f"{FD} +- {last['fd_spread']:.3f} after {last['training_seconds']:.0f} s, {last['step']} steps of training, {size}"
        found.append((f"LDM-{factor}", f"{last['fd']:.3f} {few}", how))
        found.append((f"LDM-{factor}: right", f"{last['right']:.1%}", summary["protocol"]["right"]))
        speed = f"{STEPS} DDIM steps, batch {last['batch']}, decoder included, {last['device']}, {last['threads']} threads"
        found.append((f"LDM-{factor}: images per second", f"{last['images_per_second']:.1f}", speed))
        latent = "x".join(map(str, stage["latent"]))
        how = f"{FD} of other held-out scenes through stage one ({latent}), PSNR {stage['psnr_db']:.1f} dB, right {stage['r_right']:.1%}"
        found.append((f"LDM-{factor}: reconstructions", f"{stage['r_fd']:.3f} {few}", how))
    if "rate_distortion" in summary:
        found += coded(summary["rate_distortion"])
    return found


def coded(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of figure 2."""
    how = f"bits per dimension of the image, {found['images']} held-out scenes, code of {found['steps']} steps"
    lines = [(f"rate to an RMSE of {limit}", found["shares"][f"rmse_{limit}"]) for limit in (20, 10, 5)]
    lines.append(("rate of all parts", found["shares"]["all"]))
    return [(name, "never" if value is None else f"{value:.3f}", how) for name, value in lines]
