"""What dividing latents by their standard deviation does (appendix D.1)."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ldm.checkpoint.source import trained_size
from ldm.cli.job import UNKNOWN_SIZE, load_from_flags, output_folder
from ldm.cli.pictures import cover, read_picture
from ldm.data.grid import save_grid
from ldm.data.images import to_tensor
from ldm.data.listing import Listing
from ldm.diffusion.process import DiscreteProcess, Process
from ldm.errors import MissingFile, UserError
from ldm.model import LatentDiffusion
from ldm.rng import generator, normal
from ldm.system.files import write_text

SHARES = (0.95, 0.8, 0.65, 0.5, 0.35)  # of the sampling steps, whose noise the picture shows


def rescale_effect(flags: argparse.Namespace) -> int:
    """Measure the effect at both sizes and draw it; returns the exit code."""
    loaded = load_from_flags(flags)
    model = loaded.model
    size = min(trained_size(loaded.config) or [UNKNOWN_SIZE]) if flags.size is None else flags.size
    large = 2 * size if flags.large is None else flags.large
    if large % size:
        raise UserError(f"--large {large} is not a multiple of --size {size}")
    for side in (size, large):
        model.latent_shape(side, side)
    files = images_in(Path(flags.indir))[: flags.n]
    outdir = output_folder(flags.outdir)  # fails before the long part
    found: dict[str, Any] = {}
    for side in (size, large):
        z = encoded(model, files, side)
        found[str(side)] = numbers(model, z, side // size)
    lines = [f"{'size':>6} {'latents':>12} {'variance':>9} {'at the scale of the layout':>27} {'noise outweighs it for':>23}"]
    for side, rows in found.items():
        lines += [f"{side:>6} {r['latents']:>12} {r['variance']:9.3f} {r['coarse']:27.3f} {r['share_before']:22.1%}" for r in rows]
    sys.stdout.write("\n".join(lines) + "\n(last column: share of the reverse process, starting from pure noise)\n")
    write_text(outdir / "effect.json", json.dumps(found, indent=2) + "\n")
    save_grid(picture(model, encoded(model, files[:1], large)), outdir / "effect.png", len(SHARES) + 1)
    sys.stdout.write(f"{outdir / 'effect.png'}: noised latents, decoded; above unscaled, below divided by their standard deviation\n")
    return 0


def images_in(folder: Path) -> list[Path]:
    """Image files below a folder, sorted; a MissingFile if there are none."""
    broken: list[str] = []
    files = Listing(folder, broken).log_pictures() if folder.is_dir() else []
    if not files:
        raise MissingFile(f"--indir {folder}: no folder with images" + "".join(f"; {one}" for one in broken[:1]))
    return [folder / file for file in files]


@torch.no_grad()
def encoded(model: LatentDiffusion, files: list[Path], side: int) -> Tensor:
    """E(x) without the model's scale, `(n, c, h, w)`: samples of the posterior if the first stage has one, as in training."""
    found = []
    for i, path in enumerate(tqdm(files, desc=f"{side}x{side}", unit="image", disable=not sys.stderr.isatty())):
        x = to_tensor(cover(read_picture(path, model.first_stage.image_channels), side, side))[None].to(model.device)
        shape = model.first_stage.latent_shape(side, side)
        noise = normal(shape, [generator("rescale effect", i)], x) if model.first_stage.stochastic else None
        found.append(model.first_stage.encode(x, noise).float())
    return torch.cat(found)


def numbers(model: LatentDiffusion, z: Tensor, block: int) -> list[dict[str, Any]]:
    """Variance and timing of latents, unscaled and divided by their standard deviation."""
    rows = []
    for name, latents in (("as they are", z), ("divided", z / z.std())):
        coarse = coarse_variance(latents, block)
        rows.append(
            {"latents": name, "variance": float(latents.var()), "coarse": coarse, "share_before": share_before(model.process, coarse)}
        )
    return rows


def coarse_variance(z: Tensor, block: int) -> float:
    """Variance of the content of latents `(B, c, h, w)` at the scale of `block` cells, in units of the noise at that scale.

    Averaging over block x block cells divides the variance of white noise by block^2, and that of coarse content hardly at
    all: so the larger the image, the earlier its layout stands out of the noise. A block of 1 gives Var(z).
    """
    coarse = F.avg_pool2d(z.float(), block) if block > 1 else z.float()
    return float(coarse.var()) * block**2


def share_before(process: Process, variance: float) -> float:
    """Share of the reverse process, counted from pure noise, that is over when the signal alpha_t^2 Var(z) begins to outweigh the noise.

    0: content is visible from the first step on; 1: it never is.
    """
    steps = process.T if isinstance(process, DiscreteProcess) else 1000
    levels = (process.at(t, torch.zeros(1, 1)) for t in process.spacings()["uniform"](steps)[:-1])
    return sum(float(level.alpha**2 * variance) < float(level.sigma**2) for level in levels) / steps


@torch.no_grad()
def picture(model: LatentDiffusion, z: Tensor) -> Tensor:
    """D(z_t / alpha_t) for decreasing noise, unscaled and divided, `(2 * columns, C, H, W)`."""
    images = []
    eps = normal(z.shape[1:], [generator("rescale effect", "noise")], z)
    times = model.process.spacings()["uniform"](100)
    for deviation in (1.0, float(z.std())):
        for share in (*SHARES, 0.0):
            t = times[round((1.0 - share) * 100)]
            z_t = model.process.add_noise(z / deviation, t, eps)
            images.append(model.first_stage.decode(deviation * z_t / model.process.alpha(t, z_t).clamp(min=1e-3)))
    return torch.cat(images).clamp(-1, 1).cpu()
