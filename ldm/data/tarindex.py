"""Index of the members of a tar shard, for random access."""

import json
import logging
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from webdataset.tariterators import base_plus_ext

from ldm.data.batch import MOST_CLASSES
from ldm.data.captions import CAPTION, captions
from ldm.data.files import decoded, is_text
from ldm.errors import WriteError
from ldm.system.files import write_text
from ldm.system.terminal import printable

log = logging.getLogger(__name__)
BLOCK = 512  # bytes, of tar
VERSION = 2  # version of the index; one of another version is rebuilt


@dataclass(frozen=True)
class ShardIndex:
    """Index of one shard.

    Attributes:
        samples: by key (a name up to its first dot, webdataset's rule): suffix -> (offset, bytes).
        broken: unreadable shards and members as "shard: reason" and "shard/member: reason".
    """

    samples: dict[str, dict[str, tuple[int, int]]]
    broken: list[str]


def index_shard(path: Path, cache: bool = True) -> ShardIndex:
    """The index of a shard: from `NAME.tar.index.json` beside it if that is up to date, else by reading the tar's headers.

    Args:
        cache: write the index beside the shard, if possible.
    """
    stored = path.with_name(path.name + ".index.json")
    stat = path.stat()
    stamp = [VERSION, stat.st_size, stat.st_mtime_ns]
    try:
        content = json.loads(stored.read_text(encoding="utf-8"))
        if content["stamp"] == stamp:
            return ShardIndex(
                {k: {s: (int(o), int(n)) for s, (o, n) in v.items()} for k, v in content["samples"].items()}, content["broken"]
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # none yet, or not ours
    index = read_headers(path)
    if cache:
        try:
            write_text(stored, json.dumps({"stamp": stamp, "samples": index.samples, "broken": index.broken}))
        except (WriteError, OSError) as error:  # a read-only folder: the index is kept in memory
            log.info("the index of a shard cannot be stored: %s", error)
    return index


def read_headers(path: Path) -> ShardIndex:
    """Read the headers of a tar; of a damaged one, the members before the damage."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    broken: list[str] = []
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name = PurePosixPath(member.name).as_posix()  # `tar c .` writes ./name
                key, suffix = base_plus_ext(name)
                if member.isdir() or not key or "/." in "/" + name:
                    continue
                if not is_text(name):
                    broken.append(f"{path}/{printable(name)}: a name that is not UTF-8")
                elif not member.isfile():
                    broken.append(f"{path}/{name}: a link or a device, expected a file")
                elif member.offset_data + member.size > size:
                    broken.append(f"{path}/{name}: the shard ends within it")
                elif suffix.lower() in samples.get(key, {}):
                    broken.append(f"{path}/{name}: a second one of this name")
                else:
                    samples.setdefault(key, {})[suffix.lower()] = (member.offset_data, member.size)
            damage = _problem_after(path, tar.offset, size)
    except (tarfile.TarError, OSError, EOFError) as error:
        damage = f"not a readable tar ({error})"
    if damage and not broken:
        broken.append(f"{path}: {damage}")
    return ShardIndex(samples, broken)


def _problem_after(path: Path, end: int, size: int) -> str:
    """Problem after the last member: Python's tarfile treats a damaged header as the end."""
    if end >= size:
        return ""
    with path.open("rb") as file:
        file.seek(end)
        return "a damaged header; what follows is lost" if file.read(BLOCK).strip(b"\0") else ""


def read_member(path: Path, place: tuple[int, int]) -> bytes:
    """Content of a member."""
    with path.open("rb") as file:
        file.seek(place[0])
        return file.read(place[1])


def captions_in(data: bytes, suffix: str) -> tuple[str, ...]:
    """The caption of a .txt or .caption member, or the one or several of a .json member below "caption" or "text".

    Raises:
        ValueError: not UTF-8, not JSON.
    """
    text = decoded(data)
    if suffix != "json":
        return (text.strip(),)
    try:
        row = json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON with too many levels") from error
    given = [row[key] for key in CAPTION if row.get(key) is not None] if isinstance(row, dict) else []
    return captions(given[0], "caption") if given else ()


def class_in(data: bytes) -> int:
    """The class index of a .cls member.

    Raises:
        ValueError: not a class index.
    """
    if not 0 <= (label := int(data)) < MOST_CLASSES:
        raise ValueError(f"class {label}: expected an index from 0")
    return label
