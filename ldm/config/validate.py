"""Validate every node of a config against the signature of its target, before anything is built."""

import inspect
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ldm.config.load import Config
from ldm.config.renamed import renamed
from ldm.config.targets import DEFAULT_TARGETS, AllowedTargets, did_you_mean
from ldm.config.types import Built, advice, mismatch, signature
from ldm.errors import UserError, understood
from ldm.ranges import finite

NODE_KEYS = ("target", "params", "partial")
FROM_DATA = "data"  # value of an argument that the training set says, for classes with a static method `from_data`
TOP = {  # top-level key -> (type, what it is)
    "model": (dict, "a node with target and params"),
    "data": (dict, "a node with target and params"),
    "trainer": (dict, "a node with params"),
    "callbacks": (dict, "a mapping of names to nodes"),
    "loggers": (dict, "a mapping of names to nodes"),
    "sampling": (dict, "sampler settings"),
    "evaluation": (dict, "sampling and published numbers"),
    "classes": (dict, "names of classes by key"),
    "latents": (dict, "scale and mean of the latents of a first stage"),
    "paths": (dict, "a mapping of names to paths"),
    "seed": (int, "an integer"),
    "name": (str, "a string"),
}


@dataclass(frozen=True)
class Problem:
    """A problem of a config: file, path in the config, and what was expected."""

    file: str
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.path}: {self.text}"


def validate(config: Config, trust: AllowedTargets) -> list[Problem]:
    """All problems of a config, in its order; an empty list means that it can be built.

    Nodes without a target at `data:` and `trainer:` get the default one.
    """
    problems: list[tuple[str, str]] = []
    for key, value in config.data.items():
        if key not in TOP:
            problems.append((key, f"unknown top-level key{did_you_mean(key, TOP)} (known: {', '.join(TOP)})"))
        elif not isinstance(value, TOP[key][0]) or isinstance(value, bool):
            problems.append((key, f"expected {TOP[key][1]}, got {value!r}"))
    for key, target in DEFAULT_TARGETS.items():
        if isinstance(config.data.get(key), dict):
            config.data[key] = {"target": target, **config.data[key]}
    for key in ("model", "data", "trainer"):
        if key not in config.data:
            problems.append((key, f"missing: expected {TOP[key][1]}"))
        elif isinstance(config.data[key], dict) and "target" not in config.data[key]:
            problems.append((key, "has no target"))
    seed = config.data.get("seed", 0)
    if isinstance(seed, int) and not 0 <= seed < 2**32:
        problems.append(("seed", f"expected 0 to {2**32 - 1}, got {seed}"))
    problems += _published(config.data.get("evaluation"))
    for key, value in config.data.items():
        if isinstance(value, dict | list):
            problems += list(_walk(value, key, trust))
    return [Problem(config.origin(path), path, text) for path, text in problems]


def require_shape(config: Any, source: str) -> dict[str, Any]:
    """Validate the structure of a config inside an untrusted file, as far as code relies on it without building; returns current names.

    Raises:
        UserError: not a mapping, or another type where a mapping or the name of a class is expected.
    """
    wrong = [] if isinstance(config, dict) else [("config", "a mapping", config)]
    parts: list[tuple[str, Any]] = [] if wrong else list(config.items())
    for key, value in parts:
        if TOP.get(key, (object,))[0] is dict and not isinstance(value, dict | None):
            wrong.append((key, TOP[key][1], value))
    while parts and not wrong:
        path, value = parts.pop()
        if isinstance(value, dict):
            wrong += [(f"{path}.params", "a mapping", value["params"])] if not isinstance(value.get("params"), dict | None) else []
            wrong += [(f"{path}.target", "a name", value["target"])] if not isinstance(value.get("target", ""), str) else []
            parts += [(f"{path}.{key}", item) for key, item in value.items()]
        elif isinstance(value, list):
            parts += [(f"{path}.{i}", item) for i, item in enumerate(value)]
    if wrong:
        path, expected, got = wrong[0]
        raise UserError(f"{source}: the config in it: {path}: expected {expected}, got {repr(got)[:60]}")
    with understood(source):
        return dict(renamed(config))


def _published(evaluation: Any) -> Iterator[tuple[str, str]]:
    """Problems of the published numbers."""
    published = evaluation.get("published") if isinstance(evaluation, dict) else None
    if not isinstance(published, dict | None):
        yield "evaluation.published", f"expected a mapping of names of measures to numbers, got {published!r}"
        return
    for name, value in (published or {}).items():
        if not finite(value):
            yield f"evaluation.published.{name}", f"expected a finite number, got {value!r}"


def _walk(value: Any, path: str, trust: AllowedTargets) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from _walk(item, f"{path}.{i}", trust)
    elif isinstance(value, dict):
        if "target" in value:
            yield from _check_node(value, path, trust)
        elif "params" in value and path.count(".") > 0 and not path.endswith(".params"):
            yield path, "has params but no target"
        for key, item in value.items():
            yield from _walk(item, f"{path}.{key}", trust)


def _check_node(node: dict[str, Any], path: str, trust: AllowedTargets) -> Iterator[tuple[str, str]]:
    for key in node:
        if key not in NODE_KEYS:
            hint = did_you_mean(key, NODE_KEYS) or (f"; did you mean {path}.params.{key}?" if key in _parameters(node, trust) else "")
            yield f"{path}.{key}", f"unknown key beside target{hint}; arguments go below params"
    params = node.get("params")
    if params is not None and not isinstance(params, dict):
        yield f"{path}.params", f"expected a mapping, got {params!r}"
        return
    if not isinstance(node.get("partial", False), bool):
        yield f"{path}.partial", f"expected true or false, got {node['partial']!r}"
    try:
        target = trust.resolve(str(node["target"]))
    except ValueError as error:
        yield f"{path}.target", str(error)
        return
    if str(node["target"]).startswith("pytorch_lightning.") and path.partition(".")[0] not in ("callbacks", "loggers"):
        yield f"{path}.target", f"{node['target']} belongs below callbacks: or loggers:"
    yield from _check_params(target, str(node["target"]), params or {}, bool(node.get("partial")), path, trust)


def _parameters(node: dict[str, Any], trust: AllowedTargets) -> Iterable[str]:
    try:
        return signature(trust.resolve(str(node["target"])))
    except ValueError:
        return ()


def _check_params(
    target: Any, name: str, params: dict[str, Any], partial: bool, path: str, trust: AllowedTargets
) -> Iterator[tuple[str, str]]:
    parameters = signature(target)
    named = {key: p for key, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, value in params.items():
        here = f"{path}.params.{key}"
        if key not in named:
            if not takes_any:
                yield here, f"{name} takes no {key!r}{did_you_mean(key, named)} (it takes {', '.join(named) or 'nothing'})"
            continue
        if value == FROM_DATA and hasattr(target, "from_data"):
            continue
        expected = mismatch(_stand_in(value, trust), named[key].annotation)
        if expected:
            shown = value["target"] if isinstance(value, dict) and "target" in value else repr(value)
            yield here, f"expected {expected}, got {shown}{advice(value, named[key].annotation)}"
    required = [key for key, p in named.items() if p.default is p.empty and key not in params]
    if required and not partial:
        yield f"{path}.params", f"{name} needs {', '.join(map(repr, required))}"


def _stand_in(value: Any, trust: AllowedTargets) -> Any:
    """The value with nodes replaced by placeholders for what they will build."""
    if isinstance(value, list):
        return [_stand_in(item, trust) for item in value]
    if not isinstance(value, dict) or "target" not in value:
        return value
    try:
        target = trust.resolve(str(value["target"]))
    except ValueError:
        return Built(typing.Any, bool(value.get("partial")))  # reported with its own node
    if inspect.isclass(target):
        return Built(target, bool(value.get("partial")))
    try:
        returns = typing.get_type_hints(target).get("return", typing.Any)
    except (NameError, TypeError):
        returns = typing.Any
    return Built(returns, bool(value.get("partial")))
