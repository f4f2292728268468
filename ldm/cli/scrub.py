"""Replace the paths in configs and texts, so that what is given away says nothing of the machine that it was made on."""

import json
import os
import re
import struct
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PATH = re.compile(r"(~|/|\\\\|[A-Za-z]:[\\/]|\.\.?[\\/]|\w+://|pipe:)")  # how paths and addresses begin
PRIVATE = ("data", "paths", "callbacks", "sampling")  # keys below which every text with a separator is a path
FILES = (  # arguments below these keys that name files, also without a separator
    *("root", "images", "maps", "masks", "shards", "names", "annotations", "folder", "file", "path", "checkpoint", "vgg16", "latent_stats"),
    *("dirpath", "save_dir", "init", "guide", "classifier", "autoguide"),
)
SHORTEST = 5  # letters: shorter paths, such as "/w", may be part of anything


def machine_paths(*paths: Path) -> list[str]:
    """Paths that no published file may contain: the given ones, and the user's, working and temporary folders."""
    places = [*paths, Path.home(), Path.cwd(), Path(tempfile.gettempdir())]
    forms = dict.fromkeys(str(form) for place in places for form in (Path(os.path.abspath(place)), place.resolve()))
    return [form for form in forms if len(form) >= SHORTEST]


def scrub(value: Any, known: Sequence[str] = (), key: str = "", private: bool = False) -> Any:
    """Plain containers with `path/to/<key>` instead of every text that names a file.

    Args:
        value: of a config or a record.
        known: texts that are paths, whatever they look like.
        key: the key of the value.
        private: whether the value is below a key of PRIVATE.
    """
    if isinstance(value, dict):
        below = private or key in PRIVATE
        return {name: scrub(item, known, str(name), below) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item, known, key, private) for item in value]
    if not isinstance(value, str) or not value or key == "target" or value.startswith("${"):
        return value
    return f"path/to/{key}" if value in known or _names_a_file(value, key, private) else value


def _names_a_file(text: str, key: str, private: bool) -> bool:
    if PATH.match(text) or (private and key in FILES):
        return True
    return ("/" in text or "\\" in text) and (private or os.path.exists(text))


def without_files(text: str) -> str:
    """A text as "ImageFolder(root=photos, size=64)" without the arguments that name files."""
    return re.sub(rf"(, )?\b({'|'.join(FILES)})=[^,()\[\]]+(?=[,)\]])", "", text).replace("(, ", "(")


def without_paths(text: str, paths: Sequence[str]) -> str:
    """A message with `...` instead of these paths and of every word that is a path."""
    for path in sorted(paths, key=len, reverse=True):
        text = text.replace(path, "...")
    return " ".join("..." if PATH.match(word.strip("'\"`(")) else word for word in text.split())


def leaks(folder: Path, paths: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Files below a folder that contain one of the paths, in plain bytes or as JSON writes it; of weights, the header is read."""
    forms = {form for path in paths for form in (path, json.dumps(path)[1:-1], json.dumps(json.dumps(path))[3:-3])}
    found = re.compile(b"(?<![\\w.])(" + b"|".join(re.escape(form.encode()) for form in sorted(forms)) + b")(?!\\w)")
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        if hit := found.search(_header(file) if file.suffix == ".safetensors" else file.read_bytes()):
            yield file, hit[0].decode()


def _header(file: Path) -> bytes:
    with open(file, "rb") as weights:
        (length,) = struct.unpack("<Q", weights.read(8))
        return weights.read(length)
