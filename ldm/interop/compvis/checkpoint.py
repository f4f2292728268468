"""Official `.ckpt` files in and out, without executing anything in them.

They are pickles of a Lightning run, with names of callback classes and other objects beside the state dict. torch's restricted
reader (`weights_only`) is the only one used. Names of a few known programs become inert stand-ins; any other name is an error.
"""

import _compat_pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.errors import MissingFile, UserError
from ldm.interop.leftovers import tensors_of
from ldm.system.weights import read_pickle, reason_of, save_pickled

# Families of modules whose objects people keep among hyperparameters; the exact module of a class changes with their versions.
HARMLESS = (
    *("pytorch_lightning.", "lightning.", "lightning_fabric.", "lightning_utilities.", "torchmetrics.", "omegaconf.", "transformers."),
    *("collections.", "datetime.", "decimal.", "enum.", "fractions.", "pathlib.", "typing.", "uuid."),
    *("numpy.", "torch.optim.", "torch.nn.modules.", "torch.nn.parameter.", "torch.torch_version.", "torch.utils.data."),
    *("__main__.", "main.", "ldm.", "taming."),  # of the program that wrote the file
)
TYPES = ("dict", "list", "set", "frozenset", "tuple", "int", "float", "complex", "str", "bytes", "bool", "object", "bytearray")
CONSTANTS = ("range", "slice", "type", "Ellipsis", "NotImplemented")
ALSO_HARMLESS = {f"builtins.{name}" for name in (*TYPES, *CONSTANTS)} | {"argparse.Namespace", "functools.partial", "types.SimpleNamespace"}
EXPECTED = "expected a CompVis checkpoint (a .ckpt that torch.save wrote, with a state_dict inside)"


class StandIn:
    """Replaces a class that a checkpoint names; ignores all arguments and state."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "StandIn":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Ignore the arguments."""

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""


def stand_in(name: str) -> Any:
    """The replacement of a name; torch's reader fills its own kinds of containers only."""
    if name in ("collections.defaultdict", "collections.deque"):
        return (lambda *_: []) if name.endswith("deque") else (lambda *_: {})
    return OrderedDict if name.endswith("Dict") else StandIn


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict of an official checkpoint (or of a bare `torch.save` of one); raises as `read` and `state_of`."""
    return state_of(read(path), path)[0]


def state_of(content: Mapping[str, Any], path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict in a checkpoint's content, and notes on other entries.

    Raises:
        UserError: it holds none.
    """
    state = content.get("state_dict", content)
    tensors, notes = tensors_of(state, str(path)) if isinstance(state, Mapping) else ({}, [])
    if not tensors:
        raise UserError(f"{path}: holds no state_dict; {EXPECTED}")
    return tensors, notes


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, with stand-ins for objects other than tensors and plain containers.

    Raises:
        MissingFile: no such file.
        UserError: not a checkpoint, a damaged one, or one that names anything beyond tensors and known leftovers.
    """
    if not path.is_file():
        raise MissingFile(f"{path}: no such file")
    names = foreign_names(path)
    if refused := [name for name in names if not name.startswith(HARMLESS) and name not in ALSO_HARMLESS]:
        raise UserError(f"{path}: refused, because it names {refused[0]}, which is no part of a checkpoint; {EXPECTED}")
    with torch.serialization.safe_globals([(stand_in(name), name) for name in names]):
        content = read_pickle(path, f"cannot be read; {EXPECTED}")
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}; {EXPECTED}")
    return content


def foreign_names(path: Path) -> list[str]:
    """Names in the file's pickles beyond those that torch needs for tensors; nothing is loaded.

    Raises:
        UserError: neither a zip archive of torch's nor a pickle.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(name.endswith("constants.pkl") for name in archive.namelist()):
                    raise UserError(f"{path}: a TorchScript program, not a checkpoint; {EXPECTED}")
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        return _names_of_legacy(path)
    except UserError:
        raise
    except Exception as error:  # zip, pickle and torch each raise their own kinds
        raise UserError(f"{path}: cannot be read; {EXPECTED} ({reason_of(error)})") from error


def _names_of_legacy(path: Path) -> list[str]:
    """The same for the format before torch 1.6: several pickles, then raw storages."""
    known = torch._weights_only_unpickler._get_allowed_globals()
    names: set[str] = set()
    with open(path, "rb") as file:
        for _ in range(4):  # magic number, protocol, system, content
            strings: list[str] = []
            for opcode, argument, _position in pickletools.genops(file):
                if opcode.name == "GLOBAL":
                    names.add(_python3_name(*str(argument).split(" ", 1)))
                elif opcode.name == "STACK_GLOBAL":
                    names.add(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
    return sorted(names - set(known))


def _python3_name(module: str, name: str) -> str:
    """A name of Python 2's, as torch's reader looks it up."""
    if (module, name) in _compat_pickle.NAME_MAPPING:
        return ".".join(_compat_pickle.NAME_MAPPING[module, name])
    return f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"


def write_state(path: Path, state: Mapping[str, Tensor], step: int) -> None:
    """Write a checkpoint as their scripts load it, `state_dict` and `global_step`, atomically."""
    content = {"state_dict": {name: value.contiguous() for name, value in state.items()}, "global_step": step}
    save_pickled(path, content)
