"""Official `.ckpt` files in and out, without executing anything in them.

They are pickles of a Lightning run: beside the state dict they carry names of callback classes and other leftovers of the
program that wrote them. torch's restricted reader (`weights_only`) is the only one used. Names of a few known programs become
inert stand-ins; any other name ends the reading.
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
from ldm.files import save_pickled

HARMLESS = ("pytorch_lightning.", "lightning.", "lightning_fabric.", "omegaconf.", "numpy.", "typing.", "collections.", "enum.")
CONTAINERS = ("dict", "list", "set", "frozenset", "tuple", "int", "float", "complex", "str", "bytes", "bool", "object", "bytearray")
# Plain containers and paths that such objects are made of; they become stand-ins as well.
ALSO_HARMLESS = {f"builtins.{name}" for name in CONTAINERS}
ALSO_HARMLESS |= {"argparse.Namespace", "pathlib.PosixPath", "pathlib.Path", "pathlib.PurePosixPath", "pathlib.WindowsPath"}
EXPECTED = "expected a CompVis checkpoint (a .ckpt that torch.save wrote, with a state_dict inside)"


class StandIn:
    """In the place of a class that a checkpoint names: takes anything, keeps nothing, does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "StandIn":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Whatever it is given is dropped."""

    def __setstate__(self, state: Any) -> None:
        """Whatever it is given is dropped."""


def empty_mapping(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    """In the place of a mapping that is made by a call."""
    return {}


def stand_in(name: str) -> Any:
    """What takes the place of a name; torch's reader puts items into its own kinds of mappings only."""
    if name == "collections.defaultdict":
        return empty_mapping
    return OrderedDict if name.endswith("Dict") else StandIn


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict of an official checkpoint (or of a bare `torch.save` of one); raises as `read` and `state_of`."""
    return state_of(read(path), path)


def state_of(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint's content.

    Raises:
        UserError: there is none.
    """
    state = content.get("state_dict", content)
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: holds no state_dict; {EXPECTED}")
    return {str(name): value for name, value in state.items()}


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, with stand-ins for what is neither a tensor nor a plain container.

    Raises:
        MissingFile: no such file.
        UserError: not a checkpoint, a damaged one, or one that names anything beyond tensors and known leftovers.
    """
    if not path.is_file():
        raise MissingFile(f"{path}: no such file")
    names = foreign_names(path)
    if refused := [name for name in names if not name.startswith(HARMLESS) and name not in ALSO_HARMLESS]:
        raise UserError(f"{path}: refused, because it names {refused[0]}, which is no part of a checkpoint; {EXPECTED}")
    try:
        with torch.serialization.safe_globals([(stand_in(name), name) for name in names]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        if "weights_only" in str(error).lower() or "weights only" in str(error).lower():
            reason = "it holds something else than tensors, plain containers and known leftovers"  # torch's own advice is unsafe
        raise UserError(f"{path}: cannot be read ({reason}); {EXPECTED}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}; {EXPECTED}")
    return content


def foreign_names(path: Path) -> list[str]:
    """Names in the file's pickles beyond those that torch itself needs for tensors; nothing is loaded for it.

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
        raise UserError(f"{path}: cannot be read ({str(error)[:200]}); {EXPECTED}") from error


def _names_of_legacy(path: Path) -> list[str]:
    """The same for the format before torch 1.6: several pickles behind one another, then raw storages."""
    known = torch._weights_only_unpickler._get_allowed_globals()
    names: set[str] = set()
    with open(path, "rb") as file:
        for _ in range(4):  # magic number, protocol, system, content
            strings: list[str] = []
            for opcode, argument, _position in pickletools.genops(file):
                if opcode.name == "GLOBAL":
                    names.add(_of_today(*str(argument).split(" ", 1)))
                elif opcode.name == "STACK_GLOBAL":
                    names.add(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
    return sorted(names - set(known))


def _of_today(module: str, name: str) -> str:
    """A name of Python 2's, as torch's reader looks it up."""
    if (module, name) in _compat_pickle.NAME_MAPPING:
        return ".".join(_compat_pickle.NAME_MAPPING[module, name])
    return f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"


def write_state(path: Path, state: Mapping[str, Tensor], step: int) -> None:
    """A checkpoint as their scripts load it: `state_dict` and `global_step`, whole or not at all."""
    content = {"state_dict": {name: value.contiguous() for name, value in state.items()}, "global_step": step}
    save_pickled(path, content)
