"""Names that have changed: configs, weights and command lines with the old ones keep their meaning.

This is the one table of them. Names are translated where a config comes in, from a file or from the command line; all other code knows
today's names alone.
"""

import re
from collections.abc import Sequence
from typing import Any

TARGETS: dict[str, str] = {}  # old target -> today's
ARGUMENTS: dict[str, dict[str, str]] = {  # today's target -> its old arguments -> today's
    "ldm.latent_diffusion.LatentDiffusion": {"schedule": "process"},
    "ldm.training.ClassifierTraining": {"schedule": "process"},
}
REFERENCE = re.compile(r"(?<=\$\{)[\w.]+(?=\})")


def renamed(node: Any, below: Any = None) -> Any:
    """A copy of a node of a config with today's names.

    Args:
        node: any value.
        below: what the node will be merged over; its target counts where the node has none.
    """
    if isinstance(node, list):
        return [renamed(item) for item in node]
    if not isinstance(node, dict):
        return node
    below = below if isinstance(below, dict) else {}
    target = node.get("target", below.get("target"))
    target = TARGETS.get(target, target) if isinstance(target, str) else None
    made = {**node, "target": target} if target and "target" in node else dict(node)
    if target in ARGUMENTS and isinstance(made.get("params"), dict):
        made["params"] = _with_arguments(made["params"], ARGUMENTS[target])
    return {key: renamed(value, below.get(key)) for key, value in made.items()}


def _with_arguments(params: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Where an argument is there under both names, the entries under the new one are over those under the old one."""
    made: dict[str, Any] = {}
    for key in sorted(params, key=lambda key: key not in names):
        name = names.get(key, key)
        made[name] = _over(params[key], made.get(name))
    return {names.get(key, key): made[names.get(key, key)] for key in params}


def _over(new: Any, old: Any) -> Any:
    if isinstance(new, dict) and isinstance(old, dict):
        return {**old, **{key: _over(value, old.get(key)) for key, value in new.items()}}
    return new


def original(node: Any) -> Any:
    """A copy of a node with the names from before any change: for hashes of configs, which were written down with those."""
    if isinstance(node, list):
        return [original(item) for item in node]
    if not isinstance(node, dict):
        return node
    target = str(node.get("target"))
    arguments = {today: old for old, today in ARGUMENTS.get(target, {}).items()}
    made = {**node, "target": {today: old for old, today in TARGETS.items()}.get(target, target)} if "target" in node else dict(node)
    if arguments and isinstance(made.get("params"), dict):
        made["params"] = {arguments.get(key, key): value for key, value in made["params"].items()}
    return {key: original(value) for key, value in made.items()}


def renamed_path(keys: Sequence[str], config: Any) -> list[str]:
    """A path with today's names, through a config that has them."""
    found: list[str] = []
    target, node = None, config
    for key in keys:
        if found[-1:] == ["params"] and isinstance(target, str):
            key = ARGUMENTS.get(target, {}).get(key, key)
        target = node.get("target") if isinstance(node, dict) else None
        found.append(key)
        node = node.get(key) if isinstance(node, dict) else node[int(key)] if _has(node, key) else None
    return found


def _has(node: Any, key: str) -> bool:
    return isinstance(node, list) and key.isdigit() and int(key) < len(node)


def renamed_references(node: Any, config: Any, place: tuple[str, ...] = ()) -> Any:
    """A copy of a node of a config whose `${...}` lead along today's names; `place` is the node's own path."""
    if isinstance(node, dict):
        return {key: renamed_references(value, config, (*place, str(key))) for key, value in node.items()}
    if isinstance(node, list):
        return [renamed_references(value, config, (*place, str(i))) for i, value in enumerate(node)]
    if not isinstance(node, str) or "${" not in node:
        return node

    def today(match: re.Match[str]) -> str:
        name = match[0].lstrip(".")
        dots = len(match[0]) - len(name)  # one is the mapping that the text is in, two the one above that
        start = place[: max(len(place) - dots, 0)] if dots else ()
        return "." * dots + ".".join(renamed_path([*start, *name.split(".")], config)[len(start) :])

    return REFERENCE.sub(today, node)
