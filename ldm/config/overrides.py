"""Overrides on the command line: `key.sub=value`. Values are parsed by the parameter's type; strings are kept as typed."""

import inspect
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import yaml

from ldm.config.interpolation import paths_read
from ldm.config.renamed import moved, renamed, renamed_path
from ldm.config.targets import DEFAULT_TARGETS, SAMPLING, AllowedTargets, did_you_mean
from ldm.config.types import SEQUENCES, items, kinds, signature
from ldm.config.yaml_text import FLOAT, YamlLoader
from ldm.errors import UserError

INTEGER = re.compile(r"[-+]?(?:0|[1-9]\d*|[1-9]\d{0,2}(?:_\d{3})+)")  # 08 is not a number, and 1_6 is hardly meant as one
NUMBER = re.compile(FLOAT)
NULL = ("null", "Null", "NULL")
SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
SETTINGS = ("sampling", "evaluation")


def override(merged: dict[str, Any], word: str, trust: AllowedTargets) -> tuple[list[str], Any]:
    """Apply an override to a config; returns its path, with current names, and its value.

    Raises:
        UserError: not `key=value`, or a key below a value that has no keys.
    """
    path, equals, text = word.partition("=")
    keys = renamed_path(path.split("."), merged)
    if not equals or not all(keys):
        raise UserError(f"override {word!r}: expected key.sub=value")
    value = renamed(value_of(text, annotation_at(merged, keys, trust), trust, word))
    value = moved(value) if keys[-1] == "target" and isinstance(value, str) else value
    node: Any = merged
    for depth, key in enumerate(keys[:-1]):
        if isinstance(node, list):
            node = node[_index(node, key, word)]
        else:
            if node.get(key) is None:
                node[key] = {}
            node = node[key]
        if not isinstance(node, dict | list):
            raise UserError(f"override {word!r}: {'.'.join(keys[: depth + 1])} is {node!r}, which has no keys")
    if isinstance(node, list):
        node[_index(node, keys[-1], word)] = value
    elif keys[-1] == "target" and node.get("target") != value:
        node.clear()
        node["target"] = value
    else:
        node[keys[-1]] = value
    return keys, value


def _index(node: list[Any], key: str, word: str) -> int:
    if not key.isdigit() or int(key) >= len(node):
        raise UserError(f"override {word!r}: {key!r} is not an index of a list of {len(node)}")
    return int(key)


def check_paths(merged: Mapping[str, Any], words: Sequence[str]) -> None:
    """Check that every path set by an override is used.

    Raises:
        UserError: one is not; otherwise, with a typo, the old path would stay in use.
    """
    names = [word.partition("=")[0].split(".")[1] for word in words if word.startswith("paths.") and "=" in word]
    read = paths_read(merged) if names else set()
    for name in names:
        if f"paths.{name}=" in words:
            raise UserError(f"override 'paths.{name}=': expected a path after it")
        if name not in read:
            known = ", ".join(f"paths.{key}" for key in sorted(read)) or "no path at all"
            raise UserError(f"override paths.{name}: nothing in the config reads it{did_you_mean(name, read)} (it reads {known})")


def annotation_at(merged: Mapping[str, Any], keys: Sequence[str], trust: AllowedTargets) -> Any:
    """Type annotation of the parameter at a dotted path; `Any` if unknown."""
    value: Any = merged
    annotation: Any = {"paths": dict[str, str], "name": str, "seed": int}
    for depth, key in enumerate(keys):
        node = value if isinstance(value, dict) else {}
        target = node.get("target", DEFAULT_TARGETS.get(keys[0]) if depth == 1 else None)
        if depth == 1 and keys[0] in SETTINGS:
            annotation = {**arguments(SAMPLING, trust), "samples": int}
        if isinstance(annotation, dict):
            annotation = annotation.get(key, Any)
        elif target is not None:
            annotation = arguments(target, trust) if key == "params" else {"target": str, "partial": bool}.get(key, Any)
        else:
            annotation = items(annotation, key)
        value = node.get(key) if not isinstance(value, list) else value[int(key)] if key.isdigit() and int(key) < len(value) else None
    return annotation


def arguments(target: Any, trust: AllowedTargets) -> dict[str, Any]:
    """Type annotations of a constructor's arguments, as far as known."""
    try:
        found = signature(trust.resolve(str(target)))
    except (ValueError, TypeError):  # reported when the config is checked
        return {}
    return {name: Any if p.annotation is inspect.Parameter.empty else p.annotation for name, p in found.items()}


def value_of(text: str, annotation: Any, trust: AllowedTargets, word: str = "") -> Any:
    """Parse a text as a value of an annotated type; text that does not match is returned unchanged.

    Raises:
        UserError: unbalanced brackets or braces.
    """
    wanted = [] if isinstance(annotation, dict) else kinds(annotation)
    first = text.lstrip()[:1]
    is_list = first == "[" and any(getattr(kind, "__origin__", kind) in SEQUENCES for kind in wanted)
    is_node = first == "{" and any(inspect.isclass(kind) and kind not in (str, int, float, bool, type(None)) for kind in wanted)
    if first not in ("[", "{", '"', "'") or (str in wanted and not is_list and not is_node):
        return plain(text, annotation)
    try:
        node: Any = yaml.compose(text, Loader=YamlLoader)
    except yaml.YAMLError as error:
        if str in wanted:
            return plain(text, annotation)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"override {word!r}: {problem}; entries with special characters go in quotes") from error
    if node.end_mark.index < len(text.rstrip()):
        return plain(text, annotation)  # text after the brackets, as in [new]/x
    return _composed(node, annotation, trust)


def _composed(node: yaml.Node, annotation: Any, trust: AllowedTargets) -> Any:
    """A list or mapping of the command line, with entries parsed by their expected types."""
    if isinstance(node, yaml.ScalarNode):
        return plain(node.value, annotation) if not node.style else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_composed(part, items(annotation, str(i)), trust) for i, part in enumerate(node.value)]
    entries = {key.value: value for key, value in node.value}
    if "target" in entries:
        annotation = {"target": str, "partial": bool, "params": arguments(entries["target"].value, trust)}
    within = annotation if isinstance(annotation, dict) else {}
    return {key: _composed(value, within.get(key) or items(annotation, key), trust) for key, value in entries.items()}


def plain(text: str, annotation: Any = Any) -> Any:
    """A scalar. If no string is expected, numbers, true, false and null are parsed."""
    wanted = [] if isinstance(annotation, dict) else kinds(annotation)
    scalars = {int, float, bool, str} & {kind if isinstance(kind, type) else type(kind) for kind in wanted}
    if str in wanted and scalars == {str}:
        return None if text in NULL and type(None) in wanted else home(text)
    bare, lower = text.strip(), text.strip().lower()
    if bare in (*NULL, "~", "") and (type(None) in wanted or not scalars):
        return None
    if lower in SWITCH and (bool in wanted or (str not in scalars and lower in ("true", "false"))):
        return SWITCH[lower]
    with suppress(ValueError):  # 1_.5, and integers with thousands of digits
        if INTEGER.fullmatch(bare) and scalars != {str}:
            return int(bare)
        if NUMBER.fullmatch(bare) and (float in scalars or str not in scalars):
            return float(lower.replace(".inf", "inf").replace(".nan", "nan"))
    return text


def home(text: str) -> str:
    """Expand a leading `~`, `$HOME` or `${HOME}`, which the shell does not expand inside a word."""
    for start in ("$HOME", "${HOME}"):
        if text == start or text.startswith((start + "/", start + "\\")):
            return os.path.expanduser("~") + text[len(start) :]
    return os.path.expanduser(text)
