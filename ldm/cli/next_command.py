"""The command that samples from a trained model: the right script, with what the model reads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldm.cli.condition_flags import SCRIPTS, conditioner_for
from ldm.cli.other_conditions import condition_words
from ldm.data.classes import Classes
from ldm.data.images import to_image
from ldm.errors import UserError
from ldm.model import LatentDiffusion
from ldm.system.files import save_png, write_text
from ldm.system.shell import as_argument, command

EXAMPLES = "examples"  # folder in the run: conditions of its first held-out sample, for scripts that read files
SOME = 4  # number of classes in the command


def sampling_command(
    model: LatentDiffusion,
    run: Path,
    sample: Mapping[str, Any],
    more: Sequence[str] = (),
    names: Mapping[str, Sequence[str]] | None = None,
) -> str | None:
    """The next command, None if no script can give what the model reads.

    Args:
        model: of the run.
        run: its folder; conditions that are files are written to `examples/` in it, out of the sample.
        sample: of the data; a condition that is missing becomes a placeholder.
        more: further flags.
        names: of classes by key, as the run has them.
    """
    reads = set(model.conditioner.reads)
    key = next((key for key in SCRIPTS if key in reads), None)
    if key == "low_res" and reads != {"low_res"}:
        return None
    script = "sample.py" if key in (None, "label") or reads == {"label", "caption"} else SCRIPTS[str(key)].split()[0]
    known = names or {}
    given = files_of(script, run / EXAMPLES, sample, known.get("boxes", ()))
    named = [*_classes(model, known.get("label", ())), *_prompt(model, sample), *condition_words(model, sample, run / EXAMPLES)]
    if script == "sample.py":
        named += ["--n", "16"]
    words = [as_argument(run), *given, *named, "--outdir", as_argument(Path("outputs") / run.resolve().name), *more]
    return command(f"scripts/{script}", *words)


def files_of(script: str, folder: Path, sample: Mapping[str, Any], names: Sequence[str] = ()) -> list[str]:
    """Arguments of a script that name files, which are written to a folder; `names` are those of the boxes' classes."""
    try:
        if script == "superres.py":
            return [_picture(folder / "low_res.png", to_image(sample["low_res"]))]
        if script == "inpaint.py":
            mask = Image.fromarray((sample["mask"][0].numpy() > 0.5).astype(np.uint8) * 255)
            _picture(folder / "image_mask.png", mask)
            return ["--indir", str(Path(_picture(folder / "image.png", to_image(sample["image"]))).parent)]
        if script == "semantic.py":
            labels = sample["segmentation"].numpy()
            return [_picture(folder / "map.png", Image.fromarray(labels.astype(np.uint8 if labels.max() < 256 else np.uint16)))]
        if script == "layout2img.py":
            known = names if len({*names}) == len(names) else ()
            labels = [known[label] if label < len(known) else label for label in sample["box_labels"].tolist()]
            corners = [[round(value, 4) for value in box] for box in sample["boxes"].tolist()]
            boxes = [{"label": label, "box": box} for label, box in zip(labels, corners, strict=True)]
            write_text(folder / "layout.json", json.dumps({"boxes": boxes}) + "\n")
            return [as_argument(folder / "layout.json")]
    except (KeyError, OSError, UserError):  # without an example, the command has placeholders
        placeholders = {"superres.py": ["IMAGE.png"], "inpaint.py": ["--indir", "DIR"], "semantic.py": ["MAP.png"]}
        return placeholders.get(script, ["LAYOUT.json"])
    return []


def _picture(path: Path, picture: Image.Image) -> str:
    save_png(path, picture)
    return as_argument(path)


def _classes(model: LatentDiffusion, names: Sequence[str]) -> list[str]:
    part = conditioner_for(model, "label")
    return [] if part is None else Classes(part.num_classes, names).as_flag(SOME)


def _prompt(model: LatentDiffusion, sample: Mapping[str, Any]) -> list[str]:
    """A caption that the model can read: the sample's, else one of its own words."""
    part = conditioner_for(model, "caption")
    if part is None:
        return []
    text = " ".join(str(sample.get("caption") or "").split())
    if part.words() and (not text or part.unknown(text)):
        text = part.words()[0]
    return [f"--prompt={text}"] if text.startswith("-") else ["--prompt", text or "a photograph"]
