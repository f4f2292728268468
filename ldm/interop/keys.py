"""Pairs of parameters, ours and another program's, that are read and written by one table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ldm.interop.settings import Node, Settings

REQUIRED = object()


@dataclass(frozen=True)
class Key:
    """A parameter in both forms.

    Attributes:
        ours: its name here.
        theirs: its name there.
        default: their value where it is missing; a parameter that is written has another one.
        read: their value -> ours.
        write: our value -> theirs.
    """

    ours: str
    theirs: str
    default: Any = REQUIRED
    read: Callable[[Any], Any] = lambda value: value
    write: Callable[[Any], Any] = lambda value: value


def read_keys(keys: Sequence[Key], p: Settings) -> Node:
    """Our parameters from theirs.

    Raises:
        UserError: a parameter without a default is missing.
    """
    return {key.ours: key.read(p.require(key.theirs) if key.default is REQUIRED else p.take(key.theirs, key.default)) for key in keys}


def write_keys(keys: Sequence[Key], params: Mapping[str, Any]) -> Node:
    """Their parameters from ours, all of which must be there."""
    values = {key.theirs: (key.write(params[key.ours]), key.default) for key in keys}
    return {name: value for name, (value, default) in values.items() if value != default}
