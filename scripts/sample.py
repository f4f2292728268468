"""Sample images from a trained model: unconditional, class-conditional or text-conditional."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import load_from_flags, run_script, script_parser, settings_from_flags  # noqa: E402
from ldm.conditioning import ClassEmbedding, TextTransformer  # noqa: E402
from ldm.data.batch import Batch  # noqa: E402
from ldm.data.images import to_image  # noqa: E402
from ldm.errors import UserError  # noqa: E402
from ldm.files import write_whole  # noqa: E402
from ldm.generation import generate  # noqa: E402
from ldm.latent_diffusion import LatentDiffusion  # noqa: E402
from ldm.loading import precision_context  # noqa: E402
from ldm.training.monitor import save_grid  # noqa: E402

EXAMPLES = """
examples
  python scripts/sample.py logs/<run> --n 16
  python scripts/sample.py logs/<run> --n 20 --classes 0,1,2 --scale 2 --steps 25
  python scripts/sample.py logs/<run> --prompts "a red circle on the left" "a blue square at the top" --n 8
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = script_parser(__doc__, EXAMPLES)
    p.add_argument("--n", "--n_samples", type=int, default=16, help="images in all (default: 16)")
    p.add_argument("--classes", help="class indices, as 0,3,7 or 0-9, gone through in turn (default: all)")
    p.add_argument("--prompts", nargs="+", metavar="TEXT", help="captions, gone through in turn")
    p.add_argument("--height", "--H", type=int, help="of the images (default: as trained)")
    p.add_argument("--width", "--W", type=int, help="of the images (default: as trained)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    if flags.n < 1:
        raise UserError(f"--n {flags.n}: expected at least 1")
    loaded = load_from_flags(flags)
    settings = settings_from_flags(flags, loaded.config)
    conditions = condition_list(flags, loaded.model)
    height, width = image_size(flags, loaded.config)
    outdir = Path(flags.outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    record = {"model": str(loaded.path), "sha256": loaded.sha256, "step": loaded.step, "seed": flags.seed, **asdict(settings)}
    shown: list[Tensor] = []
    for first in tqdm(range(0, flags.n, flags.batch), unit="batch", disable=not sys.stderr.isatty()):
        numbers = range(first, min(first + flags.batch, flags.n))
        batch = take(conditions, numbers)
        with precision_context(flags.precision, loaded.model.scale.device):
            images = generate(loaded.model, batch, numbers, (height, width), settings, flags.seed)
        if not torch.isfinite(images).all():
            raise UserError(f"images {first} to {numbers[-1]} are not finite in {flags.precision}: sample with --precision fp32")
        for number, image in zip(numbers, images, strict=True):
            condition = {key: values[number % len(values)] for key, values in conditions.items()}
            write_png(outdir / f"{number:05d}.png", image, {**record, "number": number, **condition})
        shown += list(images.cpu())[: max(0, 64 - len(shown))]
    save_grid(torch.stack(shown), outdir / "grid.png")
    sys.stdout.write(f"{flags.n} images in {outdir}, the first {len(shown)} of them in {outdir / 'grid.png'}\n")
    return 0


def condition_list(flags: argparse.Namespace, model: LatentDiffusion) -> dict[str, list[Any]]:
    """What image i is conditioned on, as lists to go through in turn.

    Raises:
        UserError: a condition that the model does not take, or one that it lacks.
    """
    conditioner = model.conditioner
    if flags.classes is not None and not isinstance(conditioner, ClassEmbedding):
        raise UserError(f"--classes: this model reads {', '.join(conditioner.reads) or 'no condition'}, not class labels")
    if flags.prompts is not None and not isinstance(conditioner, TextTransformer):
        raise UserError(f"--prompts: this model reads {', '.join(conditioner.reads) or 'no condition'}, not captions")
    if isinstance(conditioner, ClassEmbedding):
        return {"label": class_list(flags.classes, conditioner.num_classes)}
    if isinstance(conditioner, TextTransformer):
        if flags.prompts is None:
            raise UserError('this model reads captions: give --prompts "..." ["..."]')
        unknown = getattr(conditioner.tokenizer, "unknown", lambda text: [])
        if words := sorted({word for text in flags.prompts for word in unknown(text)}):
            raise UserError(f"--prompts: the model's vocabulary lacks {', '.join(words)}; it knows {', '.join(conditioner.tokenizer.ids)}")  # type: ignore[attr-defined]
        return {"caption": flags.prompts}
    if conditioner.reads:
        raise UserError(f"this model reads {', '.join(conditioner.reads)}, which this script has no flag for")
    return {}


def class_list(text: str | None, num_classes: int) -> list[int]:
    """ "0,3,7-9" -> [0, 3, 7, 8, 9]; all classes without a text.

    Raises:
        UserError: no number, or a class that does not exist.
    """
    if text is None:
        return list(range(num_classes))
    chosen: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise UserError(f"--classes {text!r}: expected numbers like 0,3,7-9")
        chosen += range(int(low), int(high if dash else low) + 1)
    if not chosen or max(chosen) >= num_classes:
        raise UserError(f"--classes {text!r}: the model has classes 0 to {num_classes - 1}")
    return chosen


def take(conditions: dict[str, list[Any]], numbers: Sequence[int]) -> Batch:
    """The batch of conditions for these images."""
    batch: Batch = {key: [values[i % len(values)] for i in numbers] for key, values in conditions.items()}
    return {key: torch.tensor(value) if key == "label" else value for key, value in batch.items()}


def image_size(flags: argparse.Namespace, config: dict[str, Any]) -> tuple[int, int]:
    """Height and width: the flags, else the size in training."""
    train = ((config.get("data") or {}).get("params") or {}).get("train") or {}
    trained = (train.get("params") or {}).get("size", 256)
    return (trained if flags.height is None else flags.height), (trained if flags.width is None else flags.width)


def write_png(path: Path, image: Tensor, settings: dict[str, Any]) -> None:
    """A PNG that knows how it was made (text chunk "ldm"), whole or not at all."""
    info = PngInfo()
    info.add_text("ldm", json.dumps(settings))
    write_whole(path, lambda beside: to_image(image).save(beside, format="PNG", pnginfo=info))


if __name__ == "__main__":
    sys.exit(run_script(main))
