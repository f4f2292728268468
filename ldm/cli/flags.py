"""One vocabulary of flags for all scripts, and errors in one line. Nothing here imports torch: `--help` and wrong flags answer at once."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ldm.cli.names import SAMPLERS
from ldm.cli.numbers import integer, number, pixels, seed
from ldm.config import allow_environment
from ldm.config.overrides import home
from ldm.errors import UserError, unexpected
from ldm.system.shell import as_installed, program_name
from ldm.system.signals import interrupting
from ldm.system.terminal import flushed, log_to_terminal, spelled_output
from ldm.system.threads import choose_waiting

WITH = {"strength": "init", "guider": "guide", "guide_scale": "guide", "classifier_scale": "classifier"}  # idle without the other flag


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage, a screen long here, is left to --help, which keeps the lines of its texts."""

    def __init__(self, description: str | None, epilog: str | None = None) -> None:
        super().__init__(
            prog=program_name(),
            description=as_installed(description or ""),
            epilog=as_installed(epilog or ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.register("type", int, integer())
        self.register("type", float, number)
        self.add_argument("--allow-env", action="append", default=[], metavar="NAME", help="let configs read this environment variable")

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        return self._finished(super().parse_args(*args, **kwargs))

    def parse_intermixed_args(self, *args: Any, **kwargs: Any) -> Any:
        return self._finished(super().parse_intermixed_args(*args, **kwargs))

    def _finished(self, flags: argparse.Namespace) -> argparse.Namespace:
        allow_environment(flags.allow_env)
        for action in (action for action in self._actions if action.type in (None, Path) and action.metavar != "TEXT"):
            if hasattr(flags, action.dest):
                setattr(flags, action.dest, at_home(getattr(flags, action.dest)))  # --outdir=~/x, which the shell leaves as it is
        for key, other in WITH.items():
            if getattr(flags, other, "no such flag") is None and getattr(flags, key, None) != self.get_default(key):
                self.error(f"--{key.replace('_', '-')} has no effect without --{other}")
        return flags

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (--help explains all flags)\n")


def at_home(value: Any) -> Any:
    """A path, or several, with a leading `~` or `$HOME` written out; other values as they are."""
    if isinstance(value, list):
        return [at_home(one) for one in value]
    return type(value)(home(str(value))) if isinstance(value, str | Path) else value


def script_parser(description: str | None, examples: str, scale: float = 1.0) -> argparse.ArgumentParser:
    """A parser with the model as first argument and the flags every sampling script has; `scale` is guidance's default.

    Help shows the flags that a script adds itself first: they stand outside the groups.
    """
    parser = Parser(description, examples)
    p = parser.add_argument_group("how to sample")
    p.add_argument("--steps", "--ddim_steps", type=int, help="sampling steps (default: the config's, else 50)")
    p.add_argument("--eta", "--ddim_eta", type=number, help="of DDIM: 0 is deterministic (default: the config's, else 0)")
    p.add_argument("--scale", type=number, help=f"of classifier-free guidance: 1 is none (default: the config's, else {scale:g})")
    p.add_argument("--spacing", help="where the steps lie, one of the spacings of the model's process (default: uniform)")
    p.add_argument(
        "--guidance-interval",
        type=number,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="guide only at these shares of the way from data (0) to noise (1)",
    )
    p.add_argument(
        "--guidance-rescale", type=number, metavar="SHARE", help="share of the contrast without guidance that is given back, 0 to 1"
    )
    p.add_argument("--guidance-channels", type=int, metavar="N", help="guide only the first N channels, as DiT's programs do 3")
    p.add_argument(
        "--sampler", help=f"{', '.join(SAMPLERS)}, or package.function of a package of --trust (default: the config's, else ddim)"
    )
    p.add_argument(
        "--autoguide", metavar="MODEL", help="guide away from this smaller or earlier model of the same latents, by --scale (autoguidance)"
    )
    p.add_argument("--plms", action="store_const", const="plms", dest="sampler", help="the same as --sampler plms")
    p.add_argument("--batch", type=int, default=16, help="images, or tiles of them, at a time (default: 16)")
    p.add_argument("--precision", default="fp32", help="fp32, bf16, fp16, auto: what the device multiplies fastest (default: fp32)")
    p.add_argument("--seed", type=seed, default=0, help="of the set of images: image i depends on (seed, i) alone (default: 0)")
    add_model_flags(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace pictures in --outdir that were made with other settings")
    return parser


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """The model as first argument, how it is loaded and run, and where results go."""
    what = "a run folder, weights (.safetensors), a CompVis .ckpt, a DiT .pt, or a diffusers folder"
    parser.add_argument("model", metavar="MODEL", help=what)
    p = parser.add_argument_group("the model, and where results go")
    p.add_argument("--outdir", default="outputs/samples", help="folder to write to (default: outputs/samples)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    p.add_argument("--config", metavar="YAML", help="of a CompVis or DiT checkpoint (default: config.yaml beside it)")
    p.add_argument("--tokenizer", metavar="DIR", help="folder with a text model's BERT tokenizer (vocab.txt), or its CLIP or T5 encoder")
    p.add_argument("--raw", action="store_true", help="the weights as they were trained instead of their average (EMA)")
    p.add_argument("--first-stage", metavar="FILE", help="use this first stage instead of the one the weights name")
    p.add_argument("--allow-other-first-stage", action="store_true", help="accept a first stage other than the one in training")
    p.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="let the model's config name classes of this package too"
    )


def add_size_flags(p: argparse.ArgumentParser, default: str = "as trained", whole: bool = False) -> None:
    """Height and width, and tiles for sizes that do not fit into memory."""
    p.add_argument("--height", "--H", type=pixels, help=f"of the images, in pixels (default: {default})")
    p.add_argument("--width", "--W", type=pixels, help=f"of the images, in pixels (default: {default})")
    add_window_flags(p, whole)


def add_window_flags(p: argparse.ArgumentParser, whole: bool = True) -> None:
    """Overlapping tiles; with `whole`, `Job.for_sizes` uses them for large images by default, and `--whole` disables that."""
    default = " (default: the size in training, for images that are larger)" if whole else ""
    p.add_argument("--window", type=pixels, metavar="PIXELS", help=f"sample in overlapping tiles of this side: little memory{default}")
    if whole:
        p.add_argument("--whole", action="store_true", help="sample large images at once, not in tiles: slower, and more memory")
    p.add_argument("--overlap", type=pixels, metavar="PIXELS", help="of tiles (default: half a tile)")


def add_condition_flags(p: argparse.ArgumentParser, more: str = "") -> None:
    """Classes and captions; `more` is said about classes."""
    p.add_argument("--classes", help=f"class indices, as 0,3,7 or 0-9, gone through in turn (default: all){more}")
    add_typed_flags(p)
    add_prompt_flags(p, "captions, gone through in turn")


def add_typed_flags(p: argparse.ArgumentParser) -> None:
    """Conditions that have no flag of their own."""
    p.add_argument(
        "--condition",
        dest="conditions",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what else the model reads, such as hour=7: a number, numbers with commas, a text, or a .npy file; several are gone "
        "through in turn",
    )


def add_prompt_flags(p: argparse.ArgumentParser, use: str) -> None:
    """Captions, one at a time or several at once."""
    p.add_argument("--prompt", dest="prompts", action="append", metavar="TEXT", help=f'{use}; may be given several times, and may be ""')
    p.add_argument("--prompts", nargs="+", action="extend", metavar="TEXT", help="several at once")


def add_start_flags(p: argparse.ArgumentParser) -> None:
    """Image to image."""
    p.add_argument("--init", metavar="IMAGE", help="begin with this image, scaled and cut to size and noised, instead of noise")
    p.add_argument("--strength", type=number, default=0.7, help="with --init: share of the steps that are made, up to 1 (default: 0.7)")


def add_guider_flags(p: argparse.ArgumentParser, scale: float) -> None:
    """Image guidance (App. C)."""
    p.add_argument("--guider", choices=("l2", "lpips"), default="l2", help="how samples are compared with the target (default: l2)")
    p.add_argument("--guide-scale", type=number, default=scale, help=f"of image guidance: 1 is the paper's, 0 is none (default: {scale:g})")
    p.add_argument("--vgg16", metavar="FILE", help="torchvision's VGG16 weights for --guider lpips (default: its cache)")


def add_set_flags(p: argparse.ArgumentParser) -> None:
    """How a set of images is made on several devices, and written."""
    p.add_argument(
        "--processes",
        type=int,
        metavar="P",
        help="sample in so many at a time (default: one per device; --device takes a list, cuda is all)",
    )
    p.add_argument("--npz", action="store_true", help="at the end, also write all images as one array for ADM's evaluation script")


def run_script(main: Callable[[list[str] | None], int], arguments: list[str] | None = None) -> int:
    """Run a script's main; a user's mistake becomes one line and exit code 2 or 3."""
    choose_waiting()  # before main imports torch
    return flushed(outcome(main, arguments))


def outcome(main: Callable[[list[str] | None], int], arguments: list[str] | None) -> int:
    """The exit code of a script, with one line for what went wrong."""
    log_to_terminal()
    try:
        with interrupting(), spelled_output():
            return main(arguments)
    except UserError as error:
        sys.stderr.write(f"error: {as_installed(str(error))}\n")
        return error.exit_code
    except OSError as error:  # no permission, disk full, a file where a folder should be
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped; what is written is whole\n")
        return 130
    except Exception as error:
        sys.stderr.write(f"error: {unexpected(error, 'lower --batch, or where there is --window, sample in tiles')}\n")
        return 2
