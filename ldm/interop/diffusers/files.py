"""The files of a diffusers folder: JSON beside safetensors, written atomically."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ldm.errors import MissingFile, UserError
from ldm.system.files import read_json, write_text
from ldm.system.weights import read_weights, save_tensors

WEIGHTS = "diffusion_pytorch_model.safetensors"
BERT_WEIGHTS = "model.safetensors"  # classes that come from `transformers` call theirs so
VARIANTS = ("fp16", "bf16", "non_ema")  # of weights, as diffusers names their files
VERSION = "0.36.0"  # of diffusers: the first whose layout this package follows


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """A JSON file with sorted keys."""
    write_text(path, json.dumps(dict(values), indent=2, sort_keys=True) + "\n")


def read_settings(path: Path, what: str) -> dict[str, Any]:
    """A JSON file that holds a mapping; `what` says in messages what it is for.

    Raises:
        MissingFile: no such file.
        UserError: not JSON, or not a mapping.
    """
    if not path.is_file():
        raise MissingFile(f"{path}: does not exist; expected {what}")
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds a {type(values).__name__}, expected a mapping of settings")
    return values


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Safetensors as diffusers and transformers want them: the header says no more than that torch wrote them."""
    save_tensors(path, tensors, {"format": "pt"})


def weights_file(folder: Path, name: str = WEIGHTS) -> Path:
    """The weights of a part, or the index if they are split: in full precision, else the variant that exists (`*.fp16.safetensors`)."""
    stem, _, suffix = name.rpartition(".")
    full = [folder / name, folder / f"{name}.index.json"]
    variants = [[folder / f"{stem}.{v}.{suffix}", folder / f"{name}.index.{v}.json"] for v in VARIANTS]
    return next((path for pair in [full, *variants] for path in pair if path.is_file()), folder / name)


def read_tensors(folder: Path, name: str = WEIGHTS) -> dict[str, Tensor]:
    """All tensors of a part, also of one that is split into several files or exists in half precision only.

    Raises:
        MissingFile: no safetensors; pickled weights beside it do not count, because loading them runs code.
        UserError: a damaged file.
    """
    path = weights_file(folder, name)
    if path.suffix == ".json":
        names = sorted(set(read_settings(path, "the index of split weights").get("weight_map", {}).values()))
        return {key: value for part in names for key, value in _read_file(folder / Path(part).name).items()}
    return _read_file(path)


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        pickled = sorted(file.name for file in path.parent.glob("*.bin"))
        instead = f"; {pickled[0]} is pickled, and pickles can run code: convert it" if pickled else ""
        raise MissingFile(f"{path}: does not exist; expected the weights as safetensors{instead}")
    return read_weights(path)[0]
