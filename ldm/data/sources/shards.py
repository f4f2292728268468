"""Webdataset shards, as for LAION: tar files with an image and its caption under one key."""

import glob
import io
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from webdataset.shardlists import expand_urls

from ldm.data.annotated import Annotated, Annotation, Give, Picture, size_of
from ldm.data.files import path_hint
from ldm.data.images import read_image
from ldm.data.reading import Split
from ldm.data.tarindex import ShardIndex, captions_in, class_in, index_shard, read_member
from ldm.data.transforms import Crop, Size, UnreadableImage
from ldm.errors import MissingFile, UserError
from ldm.ranges import share
from ldm.system.image_files import suffixes

IMAGES = ("jpg", "jpeg", "png", "webp")  # of several images in a sample the first of these is used
TEXTS = ("txt", "caption", "json")
Members = Mapping[str, tuple[int, int]]  # suffix -> (offset, bytes)


class WebShards(Annotated):
    """Samples of webdataset shards (`00000.tar`, ...): an image with txt or caption, or json (below "caption" or "text").

    The suffix of a member starts at the first dot of its name, as in webdataset. If no image has a suffix of one part, it starts at the
    last dot: `photo 2.1.jpg` beside `photo 2.2.jpg` are two samples, `00000.input.jpg` with `00000.prompt.txt` is one.

    Samples can be accessed by index: the headers of each shard are read once, and the offsets of its members are stored in
    `NAME.tar.index.json` beside it, or in memory if it cannot be written. Samples without an image or a caption, and damaged ones, are
    skipped and listed in `broken` with their shard.

    Args:
        shards: a folder of .tar files, also nested, a pattern (`laion/*.tar`), or webdataset's braces (`laion/{00000..00041}.tar`);
            existing folders and files may have brackets and braces in their names.
        size, resize, crop, flip: see `ldm.data.annotated.Annotated`.
        give: "caption", and "label" from a `cls` member.
        split: "all", or "train" / "validation" by a hash of shard and key.
        held_out: share of the samples in "validation".
        cache: store the index beside the shards.

    Raises:
        MissingFile: no such shard or folder.
        UserError: compressed shards (which do not support random access), or no valid sample.
    """

    def __init__(
        self,
        shards: str,
        size: Size,
        give: Sequence[Give] = ("caption",),
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
        split: Split = "all",
        held_out: float = 0.001,
        cache: bool = True,
    ) -> None:
        share(held_out=held_out)
        super().__init__(f"shards {shards!r}", give, size, resize, crop, flip)
        if other := set(self.give) - {"caption", "label"}:
            raise UserError(f"{self.what}: cannot give {min(other)!r} (it can give caption, label)")
        self.paths = shard_paths(shards)
        self.shard_names = [path.stem for path in self.paths]
        if len(set(self.shard_names)) < len(self.paths):
            parent = os.path.commonpath([path.parent for path in self.paths])
            self.shard_names = [path.with_suffix("").relative_to(parent).as_posix() for path in self.paths]
        # Arrays, because a list of strings would need ten times the memory, and reference counting would copy it to every loader process.
        keys, rows = [], array("q")
        for number, path in enumerate(self.paths):
            index = index_shard(path, cache)
            self.broken += index.broken
            valid = self._valid_samples(path, index)
            keys.append(np.array([key.encode() for key, _ in valid], dtype=bytes))
            for _, row in valid:
                rows.extend((number, *row))
        self.keys = np.concatenate(keys)
        # One row per sample: shard, then offset and length of image, caption and class; caption's suffix as a number.
        self.rows = np.frombuffer(rows, np.int64).reshape(-1, 8)
        self.report_found(len(self.keys), len(self.keys) + len(self.broken))
        chosen = self.in_split((self._name(i) for i in range(len(self))), split, held_out)
        self.keys, self.rows = self.keys[chosen], self.rows[chosen]

    def _valid_samples(self, path: Path, index: ShardIndex) -> list[tuple[str, tuple[int, ...]]]:
        found: list[tuple[str, tuple[int, ...]]] = []
        for key, members in samples(index):
            image = next((members[suffix] for suffix in (*IMAGES, *sorted(members)) if suffix in members and is_image(suffix)), None)
            text = next((i for i, suffix in enumerate(TEXTS) if suffix in members), None)
            missing = "image" if image is None else ""
            if not missing and "caption" in self.give and text is None:
                missing = " or ".join(TEXTS)
            if not missing and "label" in self.give and "cls" not in members:
                missing = "cls"
            if image is None or missing:
                self.broken.append(f"{path}/{key}: has no {missing} (it has {', '.join(sorted(members))})")
                continue
            caption = (0, 0) if text is None else members[TEXTS[text]]
            found.append((key, (*image, *caption, *members.get("cls", (0, 0)), text or 0)))
        return found

    @property
    def names(self) -> list[str]:
        """Ids of the samples, "shard/key". The name of a shard is its stem; if two are equal, their folders are prepended."""
        return [self._name(i) for i in range(len(self))]

    def _name(self, index: int) -> str:
        return f"{self.shard_names[self.rows[index, 0]]}/{self.keys[index].decode()}"

    def __len__(self) -> int:
        return len(self.keys)

    def _member(self, index: int, which: int) -> bytes:
        row = self.rows[index].tolist()
        return read_member(self.paths[row[0]], (row[1 + 2 * which], row[2 + 2 * which]))

    def where(self, index: int) -> str:
        return f"{self.paths[self.rows[index, 0]]}/{self.keys[index].decode()}"

    def record(self, index: int) -> Annotation:
        captions: tuple[str, ...] = ()
        label = None
        try:
            if "caption" in self.give:
                captions = captions_in(self._member(index, 1), TEXTS[self.rows[index, -1]])
            if "label" in self.give:
                label = class_in(self._member(index, 2))
        except (OSError, ValueError) as error:
            raise UnreadableImage(f"its caption or class cannot be read ({error})") from error
        return Annotation(self._name(index), Path(str(index)), label=label, captions=captions)

    def picture(self, record: Annotation) -> Picture:
        try:
            data = self._member(int(record.path.name), 0)
        except OSError as error:  # a shard that was removed
            raise UnreadableImage(f"cannot be read ({error})") from error
        return read_image(io.BytesIO(data), self.channels)

    def original_size(self, index: int) -> tuple[int, int] | None:
        try:
            return size_of(self.picture(self.record(index)))
        except UnreadableImage:
            return None


def is_image(suffix: str) -> bool:
    """Whether members with a suffix (without its dot) are images."""
    return f".{suffix}" in suffixes()


def samples(index: ShardIndex) -> Iterator[tuple[str, Members]]:
    """Keys and members of a shard; samples without an image of a plain suffix are separated at the last dots of their names."""
    for key, members in index.samples.items():
        if any(map(is_image, members)):
            yield key, members
            continue
        by_prefix: dict[str, dict[str, tuple[int, int]]] = {}
        for suffix, place in members.items():
            prefix, _, last = suffix.rpartition(".")
            by_prefix.setdefault(prefix, {})[last] = place
        images = sum(is_image(suffix.rpartition(".")[2]) for suffix in members)
        if images > 1:
            yield from ((f"{key}.{prefix}", part) for prefix, part in by_prefix.items())
        else:
            yield key, {suffix.rpartition(".")[2]: place for suffix, place in members.items()} if images else members


def shard_paths(shards: str) -> list[Path]:
    """The shards of a folder, a pattern or braces, sorted.

    Raises:
        MissingFile: there is none, or one of them is missing.
        UserError: they are compressed.
    """
    folder = Path(shards)
    paths = sorted(folder.rglob("*.tar")) if folder.is_dir() else matching(folder)
    if not paths:
        raise MissingFile(f"shards {shards!r}: no .tar file there; put them there or set the path")
    if missing := [path for path in paths if not path.is_file()]:
        hint = path_hint(missing[0]) if len(paths) == 1 else ""  # for numbered files, similar names always exist
        raise MissingFile(f"shards {shards!r}: {missing[0]} does not exist{hint} ({len(missing)} of {len(paths)} are missing)")
    if compressed := [path for path in paths if path.suffix != ".tar"]:
        raise UserError(f"{compressed[0]}: expected .tar: a compressed shard does not support random access; unpack it with gunzip")
    return paths


def matching(path: Path) -> list[Path]:
    """The files of a path with a pattern or braces.

    The longest existing prefix is taken literally, whatever characters it has; the pattern starts after it.
    """
    base = next(existing for existing in (path, *path.parents) if existing.exists())
    if base == path:
        return [path]
    rest, found = path.relative_to(base).as_posix(), list[Path]()
    for one in expand_urls(rest) if "{" in rest else [rest]:
        # Brackets that match nothing as a set of characters are literal.
        names = glob.glob(one, root_dir=base, recursive=True) or glob.glob(one.replace("[", "[[]"), root_dir=base, recursive=True)
        found += sorted(base / name for name in names) if names or "*" in one or "?" in one else [base / one]
    return found
