"""Arguments that are given as "data", such as the number of classes or a vocabulary: the training set says them."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ldm.config import AllowedTargets, Config, build
from ldm.config.validate import FROM_DATA
from ldm.data.facts import Facts
from ldm.errors import UserError


def from_data(config: Config, trust: AllowedTargets) -> None:
    """Replace arguments of a valid config whose value is "data", in place.

    A class with such arguments has a static method `from_data(params, facts)`, which changes its arguments by those of
    `ldm.data.facts.Facts` and raises `ValueError` where the data does not say them. The names of classes become `classes:`.

    Raises:
        UserError: the data does not say it; the message names file and key.
        MissingFile: the data is missing.
    """
    nodes = list(_nodes(config.data.get("model"), ("model",), trust))
    train = ((config.data.get("data") or {}).get("params") or {}).get("train")
    if not nodes or train is None:
        return
    facts = Facts(build(train, trust.for_data(), "data.params.train"))
    for path, target in nodes:
        try:
            params = _at(config.data, path)["params"]
            target.from_data(params, facts)
        except ValueError as error:
            name = ".".join(map(str, path))
            raise UserError(f"{config.origin(name)}: {name}: {error}") from error
        with suppress(KeyError, IndexError, TypeError):  # in the source, the node may be an interpolation
            _at(config.source, path)["params"].update(params)
    if names := facts.class_names:
        config.data["classes"] = config.source["classes"] = names


def _at(node: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def _nodes(value: Any, path: tuple[str | int, ...], trust: AllowedTargets) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Path and class of every node with an argument to be replaced."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _nodes(item, (*path, key), trust)
    if isinstance(value, dict) and "target" in value and FROM_DATA in [*(value.get("params") or {}).values()]:
        with suppress(ValueError):  # reported when the config is validated
            target = trust.resolve(str(value["target"]))
            if hasattr(target, "from_data"):
                yield path, target
