"""Flags that several scripts share, and the names that their help lists: what they name would import torch."""

import argparse

from ldm.cli.parser import SIDE, Parser, count, integer, number, pixels, processes, seed

SAMPLERS = ("ddpm", "ddim", "plms", "euler", "heun", "dpm_solver", "dpm_solver_sde", "unipc")
MASKS = ("thin", "medium", "thick", "training", "mixed", "box", "half")
METRICS = (
    *("fid", "rfid", "is", "kid", "prec_recall", "prec_recall_adm", "fd_dinov2", "psnr", "ssim", "lpips", "psim", "clip", "nearest"),
    *("layout", "label_map"),
)
EXTRACTORS = ("inception", "vgg16", "dinov2", "demo")
METRIC_WEIGHTS = "models/metrics"
TASKS = ("unconditional", "class", "captions", "inpainting", "superres", "semantic", "layout", "condition")
FILTERS = ("bicubic", "bilinear", "lanczos", "box")


def script_parser(description: str | None, examples: str, scale: float = 1.0) -> Parser:
    """A parser with the model as first argument and the flags of every sampling script; `scale` is guidance's default."""
    parser = Parser(description, examples)
    p = parser.add_argument_group("how to sample")
    p.add_argument("--steps", "--ddim_steps", type=int, help="sampling steps (default: the config's, else 50)")
    p.add_argument("--eta", "--ddim_eta", type=number, help="of DDIM: 0 is deterministic (default: the config's, else 0)")
    p.add_argument("--scale", type=number, help=f"of classifier-free guidance: 1 disables it (default: the config's, else {scale:g})")
    p.add_argument("--spacing", help="of the steps, one of the spacings of the model's process (default: uniform)")
    guided = "guide only at these shares of the way from data (0) to noise (1)"
    p.add_argument("--guidance-interval", type=number, nargs=2, metavar=("LOW", "HIGH"), help=guided)
    p.add_argument("--guidance-rescale", type=number, metavar="SHARE", help="of the contrast without guidance to restore, 0 to 1")
    p.add_argument("--guidance-channels", type=int, metavar="N", help="guide only the first N channels, as DiT's programs do 3")
    p.add_argument(
        "--sampler", help=f"{', '.join(SAMPLERS)}, or package.function of a package of --trust (default: the config's, else ddim)"
    )
    p.add_argument("--autoguide", metavar="MODEL", help="guide away from this smaller or earlier model of the same latents, by --scale")
    p.add_argument("--plms", action="store_const", const="plms", dest="sampler", help="the same as --sampler plms")
    p.add_argument("--batch", type=count, default=16, help="images, or tiles of them, at a time (default: 16)")
    p.add_argument("--precision", default="fp32", help="fp32, bf16, fp16, auto: what the device multiplies fastest (default: fp32)")
    p.add_argument("--seed", type=seed, default=0, help="of the set of images: image i depends on (seed, i) alone (default: 0)")
    add_model_flags(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace pictures in --outdir that were made with other settings")
    return parser


def add_model_flags(parser: Parser) -> None:
    """The model as first argument, how it is loaded and run, and where results go."""
    what = "a run folder, weights (.safetensors), a CompVis .ckpt, a DiT .pt, or a diffusers folder"
    parser.add_argument("model", metavar="MODEL", help=what)
    p = parser.add_argument_group("the model, and where results go")
    p.add_argument("--outdir", default="outputs/samples", help="folder to write to (default: outputs/samples)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    p.add_argument("--config", metavar="YAML", help="of a CompVis or DiT checkpoint (default: config.yaml beside it)")
    p.add_argument("--tokenizer", metavar="DIR", help="folder with a text model's BERT tokenizer (vocab.txt), or its CLIP or T5 encoder")
    p.add_argument("--raw", action="store_true", help="use the weights as trained instead of their average (EMA)")
    p.add_argument("--first-stage", metavar="FILE", help="use this first stage instead of the one the weights name")
    p.add_argument("--allow-other-first-stage", action="store_true", help="accept a first stage other than the one in training")
    parser.add_trust()


def add_size_flags(p: argparse.ArgumentParser, default: str = "as trained", whole: bool = False) -> None:
    """Height and width, and tiles for sizes that do not fit into memory."""
    p.add_argument("--height", "--H", type=pixels, help=f"of the images, in pixels (default: {default})")
    p.add_argument("--width", "--W", type=pixels, help=f"of the images, in pixels (default: {default})")
    add_tile_flags(p, whole)


def add_tile_flags(p: argparse.ArgumentParser, whole: bool = True) -> None:
    """Overlapping tiles; with `whole`, large images use them by default (`ldm.cli.tiles`), and `--whole` disables that."""
    default = " (default: the size in training, for images that are larger)" if whole else ""
    p.add_argument("--window", type=pixels, metavar="PIXELS", help=f"sample in overlapping tiles of this side: little memory{default}")
    if whole:
        p.add_argument("--whole", action="store_true", help="sample large images at once, not in tiles: slower, and more memory")
    p.add_argument("--overlap", type=integer(0, SIDE), metavar="PIXELS", help="of tiles (default: half a tile)")


def add_condition_flags(p: argparse.ArgumentParser, more: str = "") -> None:
    """Conditions; `more` is added to the help of `--classes`."""
    numbered = 'classes by number or name, as 0,3,7 or 0-9 or "tabby cat", used in turn (default: all'
    p.add_argument("--classes", action="append", help=f"{numbered}); may be given several times, as for names with commas{more}")
    values = "what else the model reads, such as hour=7: a number, numbers with commas, a text, or a .npy file; several are used in turn"
    p.add_argument("--condition", dest="conditions", action="append", default=[], metavar="KEY=VALUE", help=values)
    add_prompt_flags(p, "captions, used in turn")


def add_prompt_flags(p: argparse.ArgumentParser, use: str) -> None:
    """Captions, one at a time or several at once."""
    p.add_argument("--prompt", dest="prompts", action="append", metavar="TEXT", help=f'{use}; may be given several times, and may be ""')
    p.add_argument("--prompts", nargs="+", action="extend", metavar="TEXT", help="several at once")


def add_start_flags(p: argparse.ArgumentParser) -> None:
    """Image to image."""
    p.add_argument("--init", metavar="IMAGE", help="begin with this image, scaled and cut to size and noised, instead of noise")
    p.add_argument("--strength", type=number, default=0.7, help="with --init: share of the steps to run, up to 1 (default: 0.7)")


def add_guider_flags(p: argparse.ArgumentParser, scale: float) -> None:
    """Image guidance (App. C)."""
    p.add_argument("--guider", choices=("l2", "lpips"), default="l2", help="how samples are compared with the target (default: l2)")
    p.add_argument("--guide-scale", type=number, default=scale, help=f"of image guidance: 1 as in the paper, 0: none (default: {scale:g})")
    p.add_argument("--vgg16", metavar="FILE", help="torchvision's VGG16 weights for --guider lpips (default: its cache)")


def add_set_flags(p: argparse.ArgumentParser) -> None:
    """How a set of images is sampled on several devices, and written."""
    p.add_argument("--processes", type=processes, metavar="P", help="number of processes (default: one per device; --device takes a list)")
    p.add_argument("--npz", action="store_true", help="at the end, also write all images as one array for ADM's evaluation script")


def add_reference_flags(p: argparse.ArgumentParser, images: str, split: str) -> None:
    """How the images of a folder or a config are read; `images` names them in the help."""
    p.add_argument("--split", default=split, choices=("train", "validation"), help=f"of a config's data (default: {split})")
    p.add_argument("--resize", type=pixels, metavar="PIXELS", help=f"side of the square that {images} are brought to (default: unchanged)")
    p.add_argument("--filter", default="bicubic", choices=FILTERS, help="of --resize (default: bicubic)")
    p.add_argument("--crop-first", action="store_true", help="cut the centre square before --resize instead of after it")
