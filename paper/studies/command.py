"""What the flags of the studies start."""

import argparse
import json
import sys
from pathlib import Path

from demos.measured import rounded
from ldm.checkpoint.load import load_model
from ldm.errors import UserError
from ldm.system.device import pick_device
from ldm.system.files import write_text
from paper.studies import compression
from paper.studies.distortion import draw, held_out, rate_distortion
from paper.studies.settings import Study


def run_study(flags: argparse.Namespace, overrides: list[str]) -> int:
    """Do what --study asks for; returns the exit code.

    Raises:
        UserError: flags or files that do not go together.
    """
    outdir = Path(flags.outdir or f"outputs/reproduce/{flags.study}")
    if stray := [word for word in overrides if "=" not in word]:
        raise UserError(f"{stray[0]!r}: expected key.sub=value")
    if flags.study == "rate-distortion":
        return code(flags, outdir)
    if flags.model:
        raise UserError("--model goes with --study rate-distortion: the compression study trains its own")
    try:
        factors = tuple(sorted({int(word) for word in flags.factors.split(",")}))
    except ValueError:
        raise UserError(f"--factors {flags.factors}: expected numbers, such as 1,4") from None
    study = Study(flags.seconds, flags.first_steps, flags.samples, factors, tuple(overrides))
    if flags.plan:
        sys.stdout.write("\n".join(compression.plan(outdir, study)) + "\n")
    else:
        compression.run(outdir, study)
    return 0


def code(flags: argparse.Namespace, outdir: Path) -> int:
    """Figure 2 of one model."""
    if not flags.model:
        raise UserError("--study rate-distortion needs --model: a run folder or weights of a latent diffusion model")
    if flags.code_images < 1:
        raise UserError(f"--code-images {flags.code_images}: expected at least 1")
    if flags.plan:
        sys.stdout.write(f"{flags.code_images} images x {flags.code_steps} evaluations of the network of {flags.model}; goes to {outdir}\n")
        return 0
    loaded = load_model(flags.model)
    loaded.model.to(pick_device(flags.device))
    found = rate_distortion(loaded, held_out(loaded, flags.code_images), flags.code_steps, progress=sys.stderr.isatty())
    write_text(outdir / "summary.json", json.dumps(rounded({"model": str(loaded.path), **found}), indent=2) + "\n")
    draw(found, outdir / "figure-2.png", f"Rate and distortion, {flags.model}")
    for name, value, how in compression.coded(found):
        sys.stdout.write(f"{name:<26}{value:<10}{how}\n")
    sys.stdout.write(f"see {outdir / 'figure-2.png'} and {outdir / 'summary.json'}\n")
    return 0
