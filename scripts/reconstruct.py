"""Send images through a first stage and back: what R-FID, PSNR, SSIM and PSIM of table 8 are measured on.

Writes a reconstruction and the 8-bit original it was made from, under one name in two folders, for scripts/evaluate.py.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import run_script  # noqa: E402
from ldm.cli.flags import Parser  # noqa: E402
from ldm.cli.names import FILTERS  # noqa: E402
from ldm.cli.numbers import pixels, seed, workers  # noqa: E402
from ldm.errors import UserError  # noqa: E402

EXAMPLES = """
examples
  the paper's way for ImageNet's validation images: shorter side 256, centre crop
    python scripts/reconstruct.py logs/STAGE1 data/imagenet/val --resize 256 --outdir outputs/rec
    python scripts/evaluate.py outputs/rec/reconstructions outputs/rec/originals --metrics rfid,psnr,ssim,psim
  the validation data of a config
    python scripts/reconstruct.py logs/STAGE1 configs/demo/text-first-stage.yaml --split validation --outdir outputs/rec
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("model", metavar="MODEL", help="a run folder of stage one, its weights, a CompVis checkpoint or a diffusers folder")
    p.add_argument("images", metavar="IMAGES", help="folder, .npz, or the .yaml of a config: its data set")
    p.add_argument("overrides", nargs="*", metavar="key.sub=value", help="changes to the config of IMAGES")
    p.add_argument("--n", type=int, help="images (default: all)")
    p.add_argument("--split", default="validation", choices=("train", "validation"), help="of a config's data (default: validation)")
    p.add_argument("--resize", type=pixels, metavar="PIXELS", help="side of the square that images are brought to (default: as they are)")
    p.add_argument("--filter", default="bicubic", choices=FILTERS, help="of --resize (default: bicubic)")
    p.add_argument("--crop-first", action="store_true", help="cut the centre square before --resize instead of after it")
    p.add_argument("--sample", action="store_true", help="sample the posterior of a KL first stage (default: its mode)")
    p.add_argument("--seed", type=seed, default=0, help="of --sample (default: 0)")
    p.add_argument("--batch", type=int, default=16, help="images at a time (default: 16)")
    p.add_argument("--workers", type=workers, default=0, help="processes that read images (default: 0)")
    p.add_argument("--outdir", default="outputs/reconstructed", help="where to write (default: outputs/reconstructed)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    p.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help="let the config name classes of this package too")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_intermixed_args(arguments)
    if flags.batch < 1 or (flags.n is not None and flags.n < 1) or flags.workers < 0:
        raise UserError(f"--batch {flags.batch} --n {flags.n} --workers {flags.workers}: expected at least 1, 1 and 0")
    from ldm.cli.reconstruct import reconstruct

    return reconstruct(flags)


if __name__ == "__main__":
    sys.exit(run_script(main))
