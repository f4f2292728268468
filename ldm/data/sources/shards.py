"""Webdataset shards, as for LAION: tar files with an image and its caption under one key."""

import glob
import io
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from webdataset.shardlists import expand_urls

from ldm.data.annotated import Annotated, Annotation, Give, Picture, size_of
from ldm.data.images import read_image
from ldm.data.reading import Split, beside, held_out_names
from ldm.data.shardnames import ShardNames
from ldm.data.tarindex import ShardIndex, captions_in, class_in, index_shard, read_member
from ldm.data.transforms import Crop, UnreadableImage
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
        size: int,
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
        names, places = ShardNames(self.paths), array("q")
        for number, path in enumerate(self.paths):
            index = index_shard(path, cache)
            self.broken += index.broken
            usable = self._usable(path, index)
            names.add([key for key, _ in usable])
            for _, row in usable:
                places.extend((number, *row))
        self.report_found(len(names), len(names) + len(self.broken))
        held = held_out_names(names, held_out) if split != "all" else set()
        chosen = (split == "all" or (split == "validation") == (name in held) for name in names)
        keep = np.flatnonzero(np.fromiter(chosen, bool, len(names)))
        if not len(keep):
            raise UserError(f"{self.what}: none of its {len(names)} samples is in the split {split!r}")
        # One row per sample: shard, then offset and length of image, caption and class; caption's suffix as a number.
        self.names, self.places = names, np.frombuffer(places, np.int64).reshape(len(names), -1)[keep]
        names.keep(keep)

    def _usable(self, path: Path, index: ShardIndex) -> list[tuple[str, tuple[int, ...]]]:
        found: list[tuple[str, tuple[int, ...]]] = []
        for key, members in samples(index):
            image = next((members[suffix] for suffix in (*IMAGES, *sorted(members)) if suffix in members and is_image(suffix)), None)
            text = next((i for i, suffix in enumerate(TEXTS) if suffix in members), None)
            if image is None or ("caption" in self.give and text is None) or ("label" in self.give and "cls" not in members):
                lacking = "image" if image is None else " or ".join(TEXTS) if "caption" in self.give and text is None else "cls"
                self.broken.append(f"{path}/{key}: has no {lacking} (it has {', '.join(sorted(members))})")
                continue
            caption = (0, 0) if text is None else members[TEXTS[text]]
            found.append((key, (*image, *caption, *members.get("cls", (0, 0)), text or 0)))
        return found

    def __len__(self) -> int:
        return len(self.names)

    def _member(self, index: int, which: int) -> bytes:
        row = self.places[index].tolist()
        return read_member(self.paths[row[0]], (row[1 + 2 * which], row[2 + 2 * which]))

    def where(self, index: int) -> str:
        shard, key = self.names.key(index)
        return f"{self.paths[shard]}/{key}"

    def record(self, index: int) -> Annotation:
        captions: tuple[str, ...] = ()
        label = None
        try:
            if "caption" in self.give:
                captions = captions_in(self._member(index, 1), TEXTS[int(self.places[index, -1])])
            if "label" in self.give:
                label = class_in(self._member(index, 2))
        except (OSError, ValueError) as error:
            raise UnreadableImage(f"its caption or class cannot be read ({error})") from error
        return Annotation(self.names[index], Path(str(index)), label=label, captions=captions)

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
    """Keys and members of a shard."""
    for key, members in index.samples.items():
        if any(map(is_image, members)):
            yield key, members
            continue
        parts = [(*suffix.rpartition("."), place) for suffix, place in members.items()]
        pictures = [prefix for prefix, _, last, _ in parts if is_image(last)]
        if len(pictures) == 1:
            yield key, dict((last, place) for _, _, last, place in parts)
        for prefix in dict.fromkeys(prefix for prefix, *_ in parts) if len(pictures) > 1 else ():
            yield f"{key}.{prefix}", {last: place for one, _, last, place in parts if one == prefix}
        if not pictures:
            yield key, members


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
    if absent := [path for path in paths if not path.is_file()]:
        there = beside(absent[0]) if len(paths) == 1 else ""  # for numbered files, similar names always exist
        raise MissingFile(f"shards {shards!r}: {absent[0]} does not exist{there} ({len(absent)} of {len(paths)} are missing)")
    if packed := [path for path in paths if path.suffix != ".tar"]:
        raise UserError(f"{packed[0]}: expected .tar: a compressed shard does not support random access; unpack it with gunzip")
    return paths


def matching(path: Path) -> list[Path]:
    """The files of a path with a pattern or braces.

    The longest existing prefix is taken literally, whatever characters it has; the pattern starts after it.
    """
    parts = path.parts
    known = next(i for i in range(len(parts), -1, -1) if Path(*parts[:i]).exists())
    base, rest = Path(*parts[:known]), "/".join(parts[known:])
    if not rest:
        return [base]
    found: list[Path] = []
    for one in expand_urls(rest) if "{" in rest else [rest]:
        # Brackets that match nothing as a set of characters are literal.
        names = glob.glob(one, root_dir=base, recursive=True) or glob.glob(one.replace("[", "[[]"), root_dir=base, recursive=True)
        found += sorted(base / name for name in names) if names or "*" in one or "?" in one else [base / one]
    return found
