"""Conditions without a flag of their own: any key that a conditioner declares, as `--condition hour=7` or in a file's rows."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldm.data.batch import Key
from ldm.data.listing import inside
from ldm.errors import MissingFile, UserError
from ldm.model import LatentDiffusion
from ldm.system.files import writing
from ldm.system.shell import as_argument

FLAGGED = ("label", "caption", "mask", "masked_image", "low_res", "segmentation", "boxes", "box_labels")  # flags or scripts of their own
HOW = "--condition KEY=VALUE: a number, numbers with commas between them, a text, or a .npy file"


def other_keys(model: LatentDiffusion) -> dict[str, Key]:
    """What a model reads that has no flag of its own."""
    return {name: key for name, key in model.conditioner.keys.items() if name not in FLAGGED}


def entries_from_flags(words: Sequence[str], model: LatentDiffusion) -> list[dict[str, Any]]:
    """What `--condition` says, as entries of a batch; values of a key that is given several times are used in turn.

    Raises:
        MissingFile: a missing .npy file.
        UserError: a key that the model does not read, one that is missing, or a value of another kind.
    """
    keys, given = other_keys(model), dict[str, list[Any]]()
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in keys:
            known = f"this model reads {', '.join(keys)} this way" if keys else "this model reads no such key"
            raise UserError(f"--condition {word!r}: expected {HOW}; {known}")
        given.setdefault(name, []).append(entry(name, keys[name], value, f"--condition {word}"))
    if missing := [name for name in keys if name not in given]:
        raise UserError(f"this model reads {', '.join(missing)}: give it by {HOW.replace('KEY', missing[0])}")
    count = max((len(values) for values in given.values()), default=1)
    return [{name: values[i % len(values)] for name, values in given.items()} for i in range(count)]


def entries_from_row(row: Mapping[str, Any], model: LatentDiffusion, where: str, folder: Path) -> dict[str, Any]:
    """The same from one row of a file, whose .npy files are relative to `folder`.

    Raises:
        MissingFile, UserError: as above; begins with `where`.
    """
    keys = other_keys(model)
    if missing := [name for name in keys if row.get(name) is None]:
        raise UserError(f"{where}: {', '.join(missing)} is missing; this model reads {', '.join(model.conditioner.keys)}")
    for name in keys:
        if isinstance(row[name], str) and row[name].endswith(".npy") and inside(folder, row[name]) is None:
            raise UserError(f"{where}: {name} {row[name]!r} is outside of {folder}")
    return {name: entry(name, key, row[name], f"{where}: {name}", folder) for name, key in keys.items()}


def entry(name: str, key: Key, value: Any, where: str, folder: Path = Path()) -> Any:
    """One value as an entry for one image: a number, a text or a tensor.

    Raises:
        MissingFile, UserError: a missing file, or another kind of value than the model reads.
    """
    if key.dtype is str:
        return str(value)
    assert isinstance(key.dtype, torch.dtype)
    if isinstance(value, str) and value.endswith(".npy"):
        found = _array(folder / value, where)
    else:
        try:
            if isinstance(value, str):
                value = json.loads(value) if value.startswith("[") else value.split(",")
            found = torch.tensor(np.array(value, dtype=np.float64))
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(f"{where}: expected {key}, got {str(value)[:60]!r}") from error
    if not key.shape and found.numel() == 1:
        found = found.reshape(())
    if not key.dtype.is_floating_point and not torch.equal(found, found.round()):
        raise UserError(f"{where}: expected integers")
    found = found.to(key.dtype)
    if wrong := key.problems(name, [found] if key.listed else found[None], "this model"):
        raise UserError(f"{where}: {wrong[0]}")
    return found if key.shape else found.item()


def noted(entries: Mapping[str, Any]) -> dict[str, Any]:
    """What a PNG says of such conditions."""
    values = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in entries.items()}
    return {"condition": values} if values else {}


def _array(path: Path, where: str) -> Tensor:
    if not path.is_file():
        raise MissingFile(f"{where}: {path}: no such file")
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise UserError(f"{where}: {path}: not an array of numbers ({str(error).splitlines()[0]})") from error


def condition_words(model: LatentDiffusion, sample: Mapping[str, Any], folder: Path) -> list[str]:
    """`--condition` flags with the values of a sample of the data; tensors are written to .npy files in a folder."""
    words = []
    for name in other_keys(model):
        value = sample.get(name, "VALUE")
        if isinstance(value, Tensor) and value.numel() > 1:
            with writing(folder / f"{name}.npy"):
                folder.mkdir(parents=True, exist_ok=True)
                np.save(folder / f"{name}.npy", value.numpy())
            value = folder / f"{name}.npy"
        words += ["--condition", as_argument(f"{name}={value.item() if isinstance(value, Tensor) else value}")]
    return words
