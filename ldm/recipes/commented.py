"""YAML with a comment for each choice."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True)
class Because:
    """A value with the reason for it."""

    value: Any
    reason: str


def to_yaml(value: Mapping[str, Any], head: str) -> str:
    """A config as text below a comment; nested mappings as blocks, what has no comment in it and is short on one line."""
    comment = "".join(f"# {line}".rstrip() + "\n" for line in head.splitlines())
    return comment + "\n".join(_lines(value, 0)) + "\n"


def _lines(value: Mapping[str, Any], indent: int) -> Iterator[str]:
    for key, item in value.items():
        item, reason = (item.value, f"  # {item.reason}") if isinstance(item, Because) else (item, "")
        head = f"{' ' * indent}{key}:"
        one = None if _commented(item) else f"{head} {_flow(item)}"
        if one is not None and (len(one) <= 120 or not isinstance(item, Mapping)):
            yield one + reason
        elif isinstance(item, Mapping):
            yield head + reason
            yield from _lines(item, indent + 2)
        else:
            yield head + reason
            for entry in item:
                first, *rest = _lines(entry, indent + 4)
                yield f"{' ' * (indent + 2)}- {first.strip()}"
                yield from rest


def _commented(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_commented, value.values()))
    return isinstance(value, Because) or (isinstance(value, list) and any(map(_commented, value)))


def _flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str) and set(value) & set("${}[],:#&*!|>'\"%@`"):
        return json.dumps(value, ensure_ascii=False)  # a double-quoted scalar of YAML
    return str(yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)).removesuffix("...\n").strip()
