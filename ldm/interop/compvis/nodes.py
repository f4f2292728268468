"""Nodes of both configs, as the translation of every part needs them."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ldm.errors import UserError
from ldm.interop.settings import Node


def split(node: Any, what: str) -> tuple[str, dict[str, Any]]:
    """Target and params of one of their nodes.

    Raises:
        UserError: not a node.
    """
    if not isinstance(node, Mapping) or not isinstance(node.get("target"), str):
        raise UserError(f"{what}: expected a node with target and params, got {node!r}")
    params = node.get("params")
    if params is not None and not isinstance(params, Mapping):
        raise UserError(f"{what}: {node['target']}: params must be a mapping, got {params!r}")
    return node["target"], dict(params or {})


def name_of(node: Node) -> str:
    """The class a node names, without its package."""
    return str(node["target"]).rpartition(".")[2]


def refuse(what: str) -> UserError:
    """The error for something that CompVis configs cannot express."""
    return UserError(f"cannot be written as a CompVis checkpoint: {what}")


def complete(node: Node, kind: Callable[..., Any], written: Iterable[str]) -> dict[str, Any]:
    """Parameters of one of our nodes with the defaults of what it builds.

    Args:
        node: ours.
        kind: what it builds.
        written: parameters that have a place there; the others must have their defaults, or be off.

    Raises:
        UserError: another value.
    """
    defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    params = dict(node.get("params") or {})
    for key in params.keys() - set(written):
        if params[key] not in (None, False, 0.0, defaults.get(key)):
            raise refuse(f"{name_of(node)} with {key}={params[key]!r}")
    return defaults | params
