"""Load configs: `base:` files first, then files in order, then `key.sub=value` overrides.

Two keys are special and removed by loading: `base: [file, ...]` at the top of a file, and `from: "file.yaml:dotted.path"` in any
mapping, which inserts a node of another file. Paths are relative to the file that contains them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ldm.config.interpolation import resolve
from ldm.config.overrides import check_paths, override
from ldm.config.renamed import renamed, renamed_path, renamed_references
from ldm.config.targets import AllowedTargets
from ldm.config.yaml_text import parse
from ldm.errors import UserError
from ldm.system.shipped import config_file

Path_ = tuple[str, ...]


@dataclass(frozen=True)
class Foreign:
    """How to read another project's configs.

    Attributes:
        recognises: content of a file -> whether it is a config of that project.
        translate: (content, name of the file) -> content of a config of this project.
        words: keys that only their configs have; an override of one of them changes their config, before it is translated.
    """

    recognises: Callable[[dict[str, Any]], bool]
    translate: Callable[[dict[str, Any], str], dict[str, Any]]
    words: tuple[str, ...]


@dataclass
class Config:
    """A merged config: plain containers, everything resolved.

    Attributes:
        data: the content.
        source: the content before `${...}` was resolved, so that a resumed run's overrides reach what refers to them.
        origins: for every dotted path, the file (or "command line") that set it last.
        files: the files it was loaded from.
    """

    data: dict[str, Any]
    source: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def origin(self, path: str) -> str:
        """Origin of the value at a path, or of its nearest parent."""
        while path and path not in self.origins:
            path = path.rpartition(".")[0]
        return self.origins.get(path, self.files[-1] if self.files else "config")

    def to_yaml(self) -> str:
        """The resolved config as YAML text."""
        return str(yaml.safe_dump(self.data, sort_keys=False, allow_unicode=True))


def load(
    files: Sequence[str | Path],
    overrides: Sequence[str] = (),
    start: dict[str, Any] | None = None,
    foreign: "Foreign | None" = None,
    trust: AllowedTargets | None = None,
) -> Config:
    """Merge files left to right, then overrides, then resolve `${...}`.

    Args:
        files: YAML files.
        overrides: `a.b.c=value`; values are parsed by the parameter's type, see `ldm.config.overrides`.
        start: initial content (the `source` of a resumed run).
        foreign: reader of another project's configs, whose files are merged with one another before translation.
        trust: allowed targets, whose signatures give the types of parameters.

    Raises:
        UserError: names the file and what is wrong with it.
    """
    try:
        return _loaded(files, overrides, start, foreign, trust or AllowedTargets())
    except (TypeError, AttributeError, LookupError, ValueError, RecursionError) as error:  # an unexpected structure
        named = ", ".join(map(str, [*files, *overrides]))
        raise UserError(f"the config cannot be read ({named}): {type(error).__name__}: {error}") from error


def _loaded(
    files: Sequence[str | Path], overrides: Sequence[str], start: dict[str, Any] | None, foreign: "Foreign | None", trust: AllowedTargets
) -> Config:
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if start is not None:
        _merge(merged, renamed(start), "the run's config", origins, ())
    theirs: dict[str, Any] = {}
    sources: list[str] = []
    in_their_words = [w for w in overrides if foreign is not None and not set(w.partition("=")[0].split(".")).isdisjoint(foreign.words)]

    def take_theirs() -> None:
        if foreign is None or not theirs:
            return
        for word in in_their_words:
            override(theirs, word, trust)
        name = ", ".join(sources)
        _merge(merged, foreign.translate(dict(theirs), name), name, origins, ())
        theirs.clear()
        sources.clear()

    for file in files:
        for content, source in _with_bases(config_file(Path(file)), ()):
            if foreign is not None and foreign.recognises(content):
                _merge(theirs, content, source, {}, ())
                sources.append(source)
            else:
                take_theirs()
                _merge(merged, renamed(content, merged), source, origins, ())
    taken = in_their_words if theirs else []
    take_theirs()
    merged = renamed(merged)  # a file without a target may precede the one that sets it
    for word in [word for word in overrides if word not in taken]:
        keys, value = override(merged, word, trust)
        origins[".".join(keys)] = "command line"
        _record(value, "command line", origins, tuple(keys))
    merged = renamed_references(merged, merged)
    check_paths(merged, overrides)
    return Config(resolve(merged, origins), merged, origins, tuple(str(f) for f in files))


def read(file: Path) -> dict[str, Any]:
    """One YAML file, without its bases."""
    if not file.is_file():
        raise UserError(f"config {file}: no such file")
    try:
        return dict(renamed(parse(file.read_text(encoding="utf-8"), str(file))))
    except UnicodeDecodeError as error:
        raise UserError(f"config {file}: not a text file ({error})") from error


def _with_bases(file: Path, inside: tuple[Path, ...]) -> list[tuple[dict[str, Any], str]]:
    """The bases of a file, deepest first, then the file itself."""
    if file.resolve() in inside:
        raise UserError(f"config {file}: includes itself: {' -> '.join(map(str, inside))}")
    content = read(file)
    bases = content.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(b, str) for b in bases):
        raise UserError(f"config {file}: base: expected a list of file names, got {bases!r}")
    result: list[tuple[dict[str, Any], str]] = []
    for base in bases:
        if not (file.parent / base).is_file():
            raise UserError(f"config {file}: base: no such file {file.parent / base}")
        result += _with_bases(file.parent / base, (*inside, file.resolve()))
    return [*result, (_expand(content, file, (*inside, file.resolve())), str(file))]


def _expand(value: Any, file: Path, inside: tuple[Path, ...]) -> Any:
    """Replace `from:` nodes by the nodes they name; keys beside `from:` are merged over them."""
    if isinstance(value, list):
        return [_expand(item, file, inside) for item in value]
    if not isinstance(value, dict):
        return value
    beside = {key: _expand(item, file, inside) for key, item in value.items() if key != "from"}
    if "from" not in value:
        return beside
    name, _, path = str(value["from"]).partition(":")
    if not (file.parent / name).is_file():
        raise UserError(f"config {file}: from: no such file {file.parent / name}")
    node: Any = {}
    for content, source in _with_bases(file.parent / name, inside):
        _merge(node, renamed(content, node), source, {}, ())
    for key in renamed_path([key for key in path.split(".") if key], node):
        if not isinstance(node, dict) or key not in node:
            raise UserError(f"config {file}: from: {file.parent / name} has no {path!r} (missing at {key!r})")
        node = node[key]
    if beside and isinstance(node, dict):
        _merge(node, renamed(beside, node), str(file), {}, ())
    return node


def _merge(into: dict[str, Any], new: dict[str, Any], source: str, origins: dict[str, str], path: Path_) -> None:
    """Deep merge. A changed `target` drops the old `params`, which belong to another constructor."""
    if "target" in new and "target" in into and new["target"] != into["target"]:
        into.clear()
    for key, value in new.items():
        here = (*path, key)
        origins[".".join(here)] = source
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value, source, origins, here)
        else:
            into[key] = _copy(value)
            _record(value, source, origins, here)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _record(value: Any, source: str, origins: dict[str, str], path: Path_) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        origins[".".join((*path, str(key)))] = source
        _record(item, source, origins, (*path, str(key)))
