"""Build objects from validated nodes, innermost first, so that constructors receive objects and never configs."""

import functools
from collections.abc import Callable
from typing import Any

from ldm.config.targets import AllowedTargets
from ldm.errors import MissingFile, UserError, out_of_memory


def build(node: Any, trust: AllowedTargets, path: str = "", keep_going: Callable[[MissingFile], None] | None = None) -> Any:
    """Build a `target`/`params` node, and every node inside it.

    Args:
        node: the node; lists and mappings are traversed, other values are returned unchanged.
        trust: allowed targets.
        path: of the node in the config, for messages.
        keep_going: called instead of raising if a part needs a missing file; the part becomes None.

    Raises:
        UserError: an error of a constructor, with the node's path.
    """
    if isinstance(node, list):
        return [build(item, trust, f"{path}.{i}", keep_going) for i, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    if "target" not in node:
        return {key: build(item, trust, f"{path}.{key}", keep_going) for key, item in node.items()}
    try:
        target = trust.resolve(str(node["target"]))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    arguments = {key: build(item, trust, f"{path}.params.{key}", keep_going) for key, item in (node.get("params") or {}).items()}
    if node.get("partial"):
        return functools.partial(target, **arguments)
    try:
        return target(**arguments)
    except MissingFile as error:
        if keep_going is None:
            raise MissingFile(f"{path}: {error}") from error
        keep_going(MissingFile(f"{path}: {error}"))
        return None
    except (ValueError, UserError) as error:
        raise UserError(f"{path}: {node['target']}: {error}") from error
    except Exception as error:  # values that a constructor does not check: an empty list, a width of 0
        first = (str(error).strip().splitlines() or [""])[0]
        if out_of_memory(error):
            raise UserError(f"{path}: {node['target']}: not enough memory to build it ({first})") from error
        raise UserError(f"{path}: {node['target']}: {type(error).__name__}: {first}") from error
