"""YAML to plain containers: 1e-4 is a number, dates are text, duplicate keys and excessive aliases are refused."""

import re
from typing import Any

import yaml

from ldm.errors import UserError

LARGEST = 1_000_000  # maximum number of values with aliases expanded: a few lines could exhaust the memory


class YamlLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.1 without dates, and with 1e-4 as a number."""

    def construct_document(self, node: yaml.Node) -> Any:
        _count(node, {}, ())
        return super().construct_document(node)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        seen = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value}", key.start_mark)
            seen.add(key.value)
        super().flatten_mapping(node)


FLOAT = r"[-+]?(?:\d[\d_]*\.[\d_]*|\d[\d_]*(?=[eE])|\.\d[\d_]*)(?:[eE][-+]?\d+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
YamlLoader.yaml_implicit_resolvers = {
    first: [(tag, how) for tag, how in resolvers if tag.rpartition(":")[2] not in ("timestamp", "float")]
    for first, resolvers in YamlLoader.yaml_implicit_resolvers.items()
}
YamlLoader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"(?:{FLOAT})$"), list("-+.0123456789"))


def _count(node: yaml.Node, known: dict[int, int], above: tuple[int, ...]) -> int:
    """Number of values below a node, with aliases expanded."""
    if id(node) in above:
        raise yaml.constructor.ConstructorError(None, None, "a value that contains itself", node.start_mark)
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        below = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_count(part, known, (*above, id(node))) for part in below)
    if known[id(node)] > LARGEST:
        raise yaml.constructor.ConstructorError(None, None, f"more than {LARGEST} values", node.start_mark)
    return known[id(node)]


def read_yaml(text: str, source: str) -> Any:
    """Parse YAML text.

    Raises:
        UserError: names the source and the line.
    """
    try:
        return yaml.load(text, Loader=YamlLoader)  # noqa: S506  (a safe loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{source}{line}: not valid YAML: {reason}") from error


def parse(text: str, source: str) -> dict[str, Any]:
    """YAML text to a mapping; `${...}` is not resolved.

    Raises:
        UserError: names the source and the line.
    """
    content = read_yaml(text, source)
    if content is None or content == {}:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{source}: expected a mapping at the top, got {type(content).__name__}")
    _require_plain(content, source)
    return content


def _require_plain(value: Any, source: str) -> None:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise UserError(f"{source}: keys must be words, got {key!r}")
    elif not isinstance(value, list):
        if not isinstance(value, str | int | float | None):
            raise UserError(f"{source}: {type(value).__name__} is not a type of value supported in configs")
        return
    for item in value.values() if isinstance(value, dict) else value:
        _require_plain(item, source)
