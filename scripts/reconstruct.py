"""Send images through a first stage and back: what R-FID, PSNR, SSIM and PSIM of table 8 are measured on.

Writes a reconstruction and the 8-bit original it was made from, under one name in two folders, for scripts/evaluate.py.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script  # noqa: E402
from ldm.cli.flags import add_reference_flags  # noqa: E402
from ldm.cli.parser import count, seed, workers  # noqa: E402

EXAMPLES = """
examples
  the paper's way for ImageNet's validation images: shorter side 256, centre crop
    python scripts/reconstruct.py logs/STAGE1 data/imagenet/val --resize 256 --outdir outputs/rec
    python scripts/evaluate.py outputs/rec/reconstructions outputs/rec/originals --metrics rfid,psnr,ssim,psim
  the validation data of a config
    python scripts/reconstruct.py logs/STAGE1 configs/demo/text-first-stage.yaml --split validation --outdir outputs/rec
"""


def parser() -> Parser:
    """The command line."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("model", metavar="MODEL", help="a run folder of stage one, its weights, a CompVis checkpoint or a diffusers folder")
    p.add_argument("images", metavar="IMAGES", help="folder, .npz, or the .yaml of a config: its data set")
    p.add_argument("overrides", nargs="*", metavar="key.sub=value", help="changes to the config of IMAGES")
    p.add_argument("--n", type=count, help="images (default: all)")
    add_reference_flags(p, "images", "validation")
    p.add_argument("--sample", action="store_true", help="sample the posterior of a KL first stage (default: its mode)")
    p.add_argument("--seed", type=seed, default=0, help="of --sample (default: 0)")
    p.add_argument("--batch", type=count, default=16, help="images at a time (default: 16)")
    p.add_argument("--workers", type=workers, default=0, help="processes that read images (default: 0)")
    p.add_argument("--outdir", default="outputs/reconstructed", help="where to write (default: outputs/reconstructed)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    p.add_trust("the config")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_intermixed_args(arguments)
    from ldm.cli.reconstruct import reconstruct

    return reconstruct(flags)


if __name__ == "__main__":
    sys.exit(run_script(main))
