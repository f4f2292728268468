"""Send images through a first stage and back: what R-FID, PSNR, SSIM and PSIM of table 8 are measured on.

Writes a reconstruction and the 8-bit original it was made from, under one name in two folders, for scripts/evaluate.py.
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.system.threads import choose_waiting  # noqa: E402

choose_waiting()

import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from ldm.checkpoint.load import first_stage_source, frozen, pick_device  # noqa: E402
from ldm.cli import run_script  # noqa: E402
from ldm.cli.flags import Parser  # noqa: E402
from ldm.cli.measuring import open_images  # noqa: E402
from ldm.cli.numbers import pixels, seed, workers  # noqa: E402
from ldm.cli.pictures import write_png  # noqa: E402
from ldm.config import AllowedTargets  # noqa: E402
from ldm.errors import UserError  # noqa: E402
from ldm.evaluation.images import FILTERS, FolderSet, Prepare  # noqa: E402
from ldm.evaluation.paired import scaled  # noqa: E402
from ldm.evaluation.provenance import shared  # noqa: E402
from ldm.evaluation.scan import Scan, scan  # noqa: E402
from ldm.first_stage.base import FirstStage  # noqa: E402
from ldm.rng import generator, normal  # noqa: E402
from ldm.system.files import writing  # noqa: E402

EXAMPLES = """
examples
  the paper's way for ImageNet's validation images: shorter side 256, centre crop
    python scripts/reconstruct.py logs/STAGE1 data/imagenet/val --resize 256 --outdir outputs/rec
    python scripts/evaluate.py outputs/rec/reconstructions outputs/rec/originals --metrics rfid,psnr,ssim,psim
  the validation data of a config
    python scripts/reconstruct.py logs/STAGE1 configs/demo/text-first-stage.yaml --split validation --outdir outputs/rec
"""
FOLDERS = ("originals", "reconstructions")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("model", metavar="MODEL", help="a run folder of stage one, its weights, a CompVis checkpoint or a diffusers folder")
    p.add_argument("images", metavar="IMAGES", help="folder, .npz, or the .yaml of a config: its data set")
    p.add_argument("overrides", nargs="*", metavar="key.sub=value", help="changes to the config of IMAGES")
    p.add_argument("--n", type=int, help="images (default: all)")
    p.add_argument("--split", default="validation", choices=("train", "validation"), help="of a config's data (default: validation)")
    p.add_argument("--resize", type=pixels, metavar="PIXELS", help="side of the square that images are brought to (default: as they are)")
    p.add_argument("--filter", default="bicubic", choices=tuple(FILTERS), help="of --resize (default: bicubic)")
    p.add_argument("--crop-first", action="store_true", help="cut the centre square before --resize instead of after it")
    p.add_argument("--sample", action="store_true", help="sample the posterior of a KL first stage (default: its mode)")
    p.add_argument("--seed", type=seed, default=0, help="of --sample (default: 0)")
    p.add_argument("--batch", type=int, default=16, help="images at a time (default: 16)")
    p.add_argument("--workers", type=workers, default=0, help="processes that read images (default: 0)")
    p.add_argument("--outdir", default="outputs/reconstructed", help="where to write (default: outputs/reconstructed)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    p.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help="let the config name classes of this package too")
    return p


@torch.no_grad()
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_intermixed_args(arguments)
    if flags.batch < 1 or (flags.n is not None and flags.n < 1) or flags.workers < 0:
        raise UserError(f"--batch {flags.batch} --n {flags.n} --workers {flags.workers}: expected at least 1, 1 and 0")
    device = pick_device(flags.device)
    model = frozen(first_stage_source(flags.model), AllowedTargets(tuple(flags.trust)).for_model()).to(device)
    if flags.sample and not model.stochastic:
        raise UserError(f"--sample: {flags.model} has no posterior to sample")
    prepare = Prepare(flags.resize, flags.filter, flags.crop_first)
    images = scan(open_images(flags.images, flags, prepare, "REFERENCE"), flags.workers, flags.n)
    settings = {"model": flags.model, "sha256": str(model.sha256), "posterior": "sample" if flags.sample else "mode"}
    settings |= {"resize": images.images.resize, "crop": images.images.crop}  # the originals beside them cannot tell it any more
    settings |= {"seed": flags.seed} if flags.sample else {}
    outdir = Path(flags.outdir)
    if finished(outdir, images, settings):
        sys.stdout.write(f"{len(images)} pairs are there already, in {outdir}\n")
        return 0
    beside = outdir / ".unfinished"  # a run that is killed leaves no set that is short
    shutil.rmtree(beside, ignore_errors=True)
    for first in tqdm(range(0, len(images), flags.batch), unit="batch", disable=None):
        numbers = range(first, min(first + flags.batch, len(images)))
        x = scaled(images, numbers)
        again = reconstructed(model, x.to(device), numbers, flags.seed if flags.sample else None).cpu()
        for number, original, image in zip(numbers, x, again, strict=True):
            write_png(beside / "originals" / f"{number:06d}.png", original, None)
            write_png(beside / "reconstructions" / f"{number:06d}.png", image, {**settings, "number": number})
    with writing(outdir):
        for name in FOLDERS:
            (beside / name).rename(outdir / name)
        beside.rmdir()
    sys.stdout.write(f"{len(images)} pairs in {outdir / 'reconstructions'} and {outdir / 'originals'}\n")
    return 0


def finished(outdir: Path, images: Scan, settings: dict[str, object]) -> bool:
    """Whether the very pairs are there already.

    Raises:
        UserError: others are; pairs of two runs would be measured as one set.
    """
    there = [outdir / name for name in FOLDERS if (outdir / name).exists()]
    if len(there) == len(FOLDERS):
        originals, made = (FolderSet(folder) for folder in there)
        alike = len(made) == len(images) and all(shared(one or {}) == shared(settings) for one in made.settings)
        if alike and scan(originals).fingerprint == images.fingerprint:
            return True
    if there:
        raise UserError(f"{there[0]}: holds pairs of another run, and two runs must not mix: move it away or name another --outdir")
    return False


def reconstructed(model: FirstStage, x: torch.Tensor, numbers: range, seed: int | None) -> torch.Tensor:
    """D(E(x)) of images `(B, 3, H, W)` in [-1, 1], in [-1, 1]; grey where the model is.

    Raises:
        UserError: a size that the model cannot halve often enough.
    """
    x = x[:, :1] if model.image_channels == 1 else x
    try:
        shape = model.latent_shape(x.shape[2], x.shape[3])
    except ValueError as error:
        raise UserError(f"{error}: name another --resize") from error
    noise = None if seed is None else normal(shape, [generator("reconstruct", seed, i) for i in numbers], x)
    return model.decode(model.encode(x, noise)).float().clamp(-1, 1)


if __name__ == "__main__":
    sys.exit(run_script(main))
