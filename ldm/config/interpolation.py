"""`${...}` in configs: references to other values, and nothing else.

OmegaConf supports more between these braces: environment variables and custom resolvers. A config may come from an untrusted
source, and its values end up in names, folders and checkpoints.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ldm.errors import UserError

REFER = ("oc.select", "oc.dict.keys", "oc.dict.values", "oc.deprecated")  # resolvers of OmegaConf that only refer to other values
INNERMOST = re.compile(r"\$\{([^${}]*)\}")
LONG = 500  # longer lists without references are not passed to OmegaConf, which needs a second for a vocabulary
_allowed: tuple[str, ...] = ()


def allow_environment(names: Sequence[str]) -> None:
    """Let configs of this process read these environment variables (`--allow-env`), and no others."""
    global _allowed
    _allowed = tuple(names)


def literal(text: object) -> str:
    """Escape `${` in a text, such as a path, so that it is not a reference."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", str(text))


def resolve(merged: dict[str, Any], origins: Mapping[str, str]) -> dict[str, Any]:
    """A copy of a config with all references replaced by their values.

    Raises:
        UserError: a reference to a missing value, or one that does more than refer.
    """
    for path, text in texts(merged, ""):
        if wrong := _does_more(text):
            raise UserError(f"{_origin(path, origins)}: {path}: {wrong}")
    kept: dict[str, list[Any]] = {}
    try:
        found = OmegaConf.to_container(OmegaConf.create(_without_long(merged, kept)), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", "") or "")
        raise UserError(f"{_origin(key, origins)}: {key}: {str(error).splitlines()[0]}") from error
    return _with_long(found, kept)  # type: ignore[no-any-return]


def texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text that contains a reference, and its path."""
    if isinstance(value, str):
        if "${" in value:
            yield path, value
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from texts(item, f"{path}.{key}" if path else str(key))


def paths_read(merged: Mapping[str, Any]) -> set[str]:
    """Names below `paths:` that are referred to in the config."""
    return {name for _, text in texts(merged, "") for name in re.findall(r"\$\{\s*paths\.([^.:{}$\s]+)", text)}


def _origin(path: str, origins: Mapping[str, str]) -> str:
    while path and path not in origins:
        path = path.rpartition(".")[0]
    return origins.get(path, "config")


def _does_more(text: str) -> str | None:
    """What a text does beyond referring, from the innermost braces outwards; their values are not known here."""
    while found := INNERMOST.search(text):
        name, colon, argument = (part.strip() for part in found[1].partition(":"))
        if colon and name not in REFER:
            variable = argument.partition(",")[0].strip()
            if name != "oc.env":
                return f"${{{name or '...'}:...}} does more than refer to another value: only references are allowed"
            if variable not in _allowed:
                shown = variable if variable.isidentifier() else "NAME"
                risk = "would put an environment variable into names, folders and checkpoints"
                return f"${{oc.env:{shown}}} {risk}: --allow-env {shown} allows it"
        text = text[: found.start()] + "<>" + text[found.end() :]
    return f"{text!r} is not a reference to another value" if re.search(r"\$\{[^}]*:", text) else None


def _without_long(value: Any, kept: dict[str, list[Any]]) -> Any:
    """A copy with a placeholder for every long list without references."""
    if isinstance(value, dict):
        return {key: _without_long(item, kept) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) > LONG and not any(isinstance(item, dict | list) or (isinstance(item, str) and "$" in item) for item in value):
        mark = f"\0{len(kept)}"
        kept[mark] = value
        return mark
    return [_without_long(item, kept) for item in value]


def _with_long(value: Any, kept: dict[str, list[Any]]) -> Any:
    if isinstance(value, dict):
        return {key: _with_long(item, kept) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_long(item, kept) for item in value]
    return list(kept[value]) if isinstance(value, str) and value in kept else value
