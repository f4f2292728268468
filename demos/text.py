"""Coloured shapes by caption: does a sample show the requested objects, and nothing else?"""

from pathlib import Path
from statistics import mean
from typing import Any

import torch

from demos.caption_checker import share_right
from demos.run import reconstructed, sample
from ldm.checkpoint.load import LoadedModel
from ldm.data.grid import grid_of, save_grid, save_named
from ldm.data.sources.scenes import Scenes

Rows = list[tuple[str, str, str]]
SEEDS = (0, 1, 2)


def measure_text(loaded: LoadedModel, outdir: Path, count: int) -> tuple[dict[str, Any], Rows, dict[str, Path]]:
    """Sample and measure; results, rows for the page, pictures."""
    prompts = max(1, count // 3)
    fresh = Scenes(6 * prompts + 100, split="validation", seed=1)
    things = [fresh.scene(i)[0] for i in range(len(fresh))]
    chosen = {n: [i for i, t in enumerate(things) if len(t) == n][:prompts] for n in (1, 2)}
    trained_on = Scenes(**loaded.config["data"]["params"]["train"]["params"])
    seen = {trained_on.caption(i) for i in range(len(trained_on))}
    results: dict[str, Any] = {"prompts_per_kind": prompts, "sampling_seeds": list(SEEDS)}
    shown = []
    for n, name in ((1, "one_object"), (2, "two_objects")):
        captions = [fresh[i]["caption"] for i in chosen[n]]
        runs = [sample(loaded, {"caption": captions}, len(captions), fresh.size, seed) for seed in SEEDS]
        shares = [share_right(images, captions) for images in runs]
        results[f"{name}_right"] = mean(s["all"] for s in shares)
        results[f"{name}_right_per_seed"] = [s["all"] for s in shares]
        results[f"{name}_right_wrong_prompt"] = mean(share_right(images, captions[1:] + captions[:1])["all"] for images in runs)
        results[f"{name}_by_property"] = {key: mean(s[key] for s in shares) for key in ("shape", "colour", "place")}
        results[f"{name}_unseen_captions"] = mean(text not in seen for text in captions)
        shown.append((captions, runs[0]))
    real = torch.stack([fresh[i]["image"] for i in chosen[1] + chosen[2]])
    captions = [fresh[i]["caption"] for i in chosen[1] + chosen[2]]
    again = reconstructed(loaded, real)
    results["checker_real"] = share_right(real, captions)["all"]
    results["checker_reconstructions"] = share_right(again, captions)["all"]
    captions = [text for texts, _ in shown for text in texts[:32]]
    save_named(outdir / "samples.png", grid_of(torch.cat([images[:32] for _, images in shown])), captions)
    save_grid(torch.cat([real[:16], again[:16]]), outdir / "reconstructions.png", columns=16)
    how = f"{prompts} fresh prompts x {len(SEEDS)} sampling seeds: shape, colour and place correct for every requested object, nothing else"
    reals = "the pixel checker on real scenes"
    rows = [
        ("one_object_right", f"{results['one_object_right']:.1%}", how),
        ("two_objects_right", f"{results['two_objects_right']:.1%}", how),
        ("checker_real", f"{results['checker_real']:.1%}", reals),
        ("checker_reconstructions", f"{results['checker_reconstructions']:.1%}", f"{reals} through the first stage"),
    ]
    pictures = {
        "Samples for captions with one object (above) and two (below)": outdir / "samples.png",
        "Real scenes above their reconstructions": outdir / "reconstructions.png",
    }
    return results, rows, pictures
