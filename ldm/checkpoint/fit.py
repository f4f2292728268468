"""Build a module and load weights into it, after comparing names and shapes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from ldm.config import AllowedTargets, build
from ldm.errors import UserError
from ldm.nn.meta import on_meta
from ldm.nn.weights import mismatch

T = TypeVar("T")


def expect(kind: type[T], built: Any, path: Path, where: str) -> T:
    """Check the type of what a checkpoint's config built.

    Raises:
        UserError: it is not a `kind`.
    """
    if not isinstance(built, kind):
        raise UserError(f"{path}: {where} of the config inside builds a {type(built).__name__}, expected a {kind.__name__}")
    return built


def fitted(
    kind: type[T], node: dict[str, Any], trust: AllowedTargets, weights: Mapping[str, Tensor], path: Path, where: str, ignore: str = ""
) -> T:
    """Build a module and load its weights. They are compared before memory is allocated: a config in a file may contain any size.

    Args:
        kind: expected type.
        node, trust, where: as in `build`.
        weights: all weights; every name and shape must match, except names below `ignore`.
        path: path of the weights, for messages.
        ignore: see `require_fit`.

    Raises:
        UserError: names the first differences.
    """
    with on_meta():
        try:
            shape = build(node, trust, where)
        except UserError as error:
            if not isinstance(error.__cause__, RuntimeError):  # such as NotImplementedError, from a constructor that reads tensor values
                raise
            shape = None
    if shape is not None:
        require_fit(expect(kind, shape, path, where), weights, path, ignore)
    built = expect(kind, build(node, trust, where), path, where)
    load_strictly(built, weights, path, ignore)
    return built


def require_fit(module: Any, weights: Mapping[str, Tensor], path: Path, ignore: str = "") -> None:
    """Compare all names and shapes of weights with a module's; names below `ignore` may be missing.

    Raises:
        UserError: names the first differences.
    """
    own = {name: value for name, value in module.state_dict().items() if not ignore or not name.startswith(ignore)}
    if wrong := mismatch(weights, own):
        raise UserError(f"{path} does not fit the config: {wrong}")


def load_strictly(module: Any, weights: Mapping[str, Tensor], path: Path, ignore: str = "") -> None:
    """Load weights that match, see `require_fit`."""
    require_fit(module, weights, path, ignore)
    module.load_state_dict(weights, strict=not ignore)
