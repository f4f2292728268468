"""Validate YAML values against type annotations, as far as possible without building anything."""

import collections.abc
import inspect
import math
import re
import types
import typing
from typing import Any, Literal, Union

SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)
PLAIN = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def signature(target: Any) -> dict[str, inspect.Parameter]:
    """Parameters of a class or function, with annotations resolved if possible."""
    parameters = dict(inspect.signature(target).parameters)
    function = target.__init__ if inspect.isclass(target) else target
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # annotations that only exist for type checkers
        hints = {}
    return {name: p.replace(annotation=hints.get(name, p.annotation)) for name, p in parameters.items()}


def kinds(annotation: Any) -> list[Any]:
    """The types that an annotation allows; the values of a Literal."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return [kind for option in arguments for kind in kinds(option)]
    return list(arguments) if origin is Literal else [type(None) if annotation is None else annotation]


def items(annotation: Any, key: str) -> Any:
    """Type annotation of an entry of a list or mapping."""
    for kind in kinds(annotation):
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (dict, collections.abc.Mapping) and len(arguments) == 2:
            return arguments[1]
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            return arguments[int(key)] if key.isdigit() and int(key) < len(arguments) else Any
        if origin in SEQUENCES and arguments:
            return arguments[0]
    return Any


def advice(value: Any, annotation: Any) -> str:
    """A hint for a value of the wrong type, such as "; did you mean 1.5e-4?", or ""."""
    wanted = kinds(annotation)
    if str in wanted and isinstance(value, int | float):
        return "; put it in quotes, so that it stays text"
    if not isinstance(value, str | float) or not {int, float} & set(wanted):
        return ""
    text = str(value).strip()
    thousands = text.count(",") > 1 or (float not in wanted and re.fullmatch(r"[-+]?\d{1,3},\d{3}", text))
    text = text.replace(",", "" if thousands else ".")
    try:
        number = float(text.replace("_", "").rstrip("%"))
    except ValueError:
        return ""
    if not math.isfinite(number):
        return ""
    number = number / 100 if text.endswith("%") else number
    if float in wanted:
        return f"; did you mean {text if text.lstrip('0') == text and not set(text) & set('_%') else f'{number:g}'}?"
    return f"; did you mean {int(number)}?" if number == int(number) else ""


class Built:
    """Placeholder for an object that a node will build: its type, if known, or a partial of it."""

    def __init__(self, produces: Any, partial: bool) -> None:
        self.produces, self.partial = produces, partial

    def __repr__(self) -> str:
        name = getattr(self.produces, "__name__", str(self.produces))
        return f"a factory of {name}" if self.partial else f"a {name}"


def mismatch(value: Any, annotation: Any) -> str | None:
    """What was expected instead of `value`; None if it matches or is unknown."""
    if annotation in (Any, inspect.Parameter.empty) or isinstance(annotation, str | typing.TypeVar):
        return None
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        misses = [mismatch(value, option) for option in arguments]
        return None if None in misses else " or ".join(dict.fromkeys(m for m in misses if m))
    if origin is Literal:
        return None if value in arguments and type(value) in map(type, arguments) else f"one of {', '.join(map(repr, arguments))}"
    if annotation in (None, type(None)):
        return None if value is None else "null"
    if annotation in PLAIN:
        return _plain(value, annotation)
    if origin in SEQUENCES or annotation in (list, tuple):
        return _sequence(value, origin or annotation, arguments)
    if origin in (dict, collections.abc.Mapping) or annotation is dict:
        return _mapping(value, arguments)
    if origin is collections.abc.Callable or annotation is collections.abc.Callable:
        return None if isinstance(value, Built) and (value.partial or _callable(value.produces)) else "a node with target and partial: true"
    if inspect.isclass(annotation) or inspect.isclass(origin):
        return _instance(value, annotation if origin is None else origin)
    return None


def _callable(produces: Any) -> bool:
    return typing.get_origin(produces) is collections.abc.Callable


def _plain(value: Any, annotation: type) -> str | None:
    if isinstance(value, bool) and annotation is not bool:
        return PLAIN[annotation]
    fits = isinstance(value, (int, float) if annotation is float else annotation)
    return None if fits else PLAIN[annotation]


def _sequence(value: Any, origin: Any, arguments: tuple[Any, ...]) -> str | None:
    if not isinstance(value, list):
        return "a list"
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            return f"a list of {len(arguments)}"
        pairs = list(zip(value, arguments, strict=True))
    else:
        pairs = [(item, arguments[0]) for item in value] if arguments else []
    misses = [m for item, annotation in pairs if (m := mismatch(item, annotation))]
    return f"a list of {misses[0]}" if misses else None


def _mapping(value: Any, arguments: tuple[Any, ...]) -> str | None:
    if isinstance(value, Built):
        made = typing.get_origin(value.produces) or value.produces
        fits = not value.partial and (not inspect.isclass(made) or issubclass(made, collections.abc.Mapping))
        return None if fits else "a mapping"
    if not isinstance(value, dict):
        return "a mapping"
    misses = [m for item in value.values() if len(arguments) == 2 and (m := mismatch(item, arguments[1]))]
    return f"a mapping to {misses[0]}" if misses else None


def _instance(value: Any, annotation: type) -> str | None:
    expected = f"a node that builds {annotation.__name__}"
    if not isinstance(value, Built):
        return expected
    if getattr(annotation, "_is_protocol", False) or not inspect.isclass(value.produces):
        return None
    return None if not value.partial and issubclass(value.produces, annotation) else expected
