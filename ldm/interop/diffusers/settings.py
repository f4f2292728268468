"""The JSON of a diffusers part, and the parameters of one of our config nodes."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ldm.errors import UserError
from ldm.interop import settings

OWN = "_ldm"  # key for parameters that diffusers does not have; its loaders drop keys that start with an underscore


class Settings(settings.Settings):
    """Settings in a file. Keys with a leading underscore are about the file, not about the part."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        super().__init__(str(path), {key: value for key, value in values.items() if not key.startswith("_")})
        self.own: dict[str, Any] = dict(values.get(OWN) or {})

    def follows(self, key: str, default: Any, expected: Any) -> None:
        """Require the value that another key implies; `default` is diffusers' own.

        Raises:
            UserError: any other value.
        """
        value = self.left.pop(key, default)
        if value != expected:
            raise self.wrong(key, value, repr(expected))

    def same(self, key: str, default: Any) -> Any:
        """The value of a key that may be a list with an entry per level, all equal.

        Raises:
            UserError: entries that differ.
        """
        value = self.take(key, default)
        if not isinstance(value, list):
            return value
        if not value or any(item != value[0] for item in value):
            raise self.wrong(key, value, "the same value at every level")
        return value[0]

    def our_own(self, keys: tuple[str, ...]) -> dict[str, Any]:
        """Values of these parameters of ours in the file."""
        return {key: self.own[key] for key in keys if key in self.own}


def parameters(node: Any, where: str, targets: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
    """Parameters of a node with the constructor's defaults filled in.

    Args:
        node: with one of the targets.
        where: the node's place, for messages.
        targets: dotted name -> class or function.

    Raises:
        UserError: another target, or parameters that it does not take.
    """
    target = node.get("target") if isinstance(node, dict) else None
    if target not in targets:
        raise UserError(f"{where}: {target!r} cannot be written as a diffusers part, expected {' or '.join(targets)}")
    try:
        bound = inspect.signature(targets[str(target)]).bind(**(node.get("params") or {}))
    except TypeError as error:
        raise UserError(f"{where}: {target}: {error}") from error
    bound.apply_defaults()
    return dict(bound.arguments)


def changed(values: Mapping[str, Any], defaults: Callable[..., Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Those of `keys` whose values differ from the constructor's defaults."""
    known = inspect.signature(defaults).parameters
    return {key: values[key] for key in keys if values[key] != known[key].default}
