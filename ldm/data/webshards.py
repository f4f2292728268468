"""Webdataset shards, as LAION is kept: tar files with an image and its caption under one key."""

import glob
import io
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from webdataset.shardlists import expand_urls

from ldm.data.annotated import Annotated, Give, Picture, Record, size_of
from ldm.data.geometry import Crop, UnreadableImage
from ldm.data.images import read_image
from ldm.data.reading import Split, held_out_names
from ldm.data.shardnames import ShardNames
from ldm.data.tarindex import ShardIndex, caption_in, class_in, index_shard, read_member
from ldm.errors import MissingFile, UserError

IMAGES = ("jpg", "jpeg", "png", "webp")
TEXTS = ("txt", "json")


class WebShards(Annotated):
    """Samples of webdataset shards (`00000.tar`, ...): jpg, png or webp with txt (the caption) or json (below "caption").

    Every sample can be asked for by its number, as the trainer does: the headers of each shard are read once, and the places
    of its members kept in `NAME.tar.index.json` beside it, or in memory where nothing can be written. What lacks an
    image or a caption, and what is damaged, is left out and counted in `broken` with its shard.

    Args:
        shards: a folder of .tar files, nested as you like, a pattern (`laion/*.tar`), or webdataset's braces (`laion/{00000..00041}.tar`).
        size, resize, crop, flip: see `ldm.data.annotated.Annotated`.
        give: "caption", and "label" from a `cls` member.
        split: "all", or "train" / "validation" by a hash of shard and key.
        held_out: share of the samples in "validation".
        cache: keep the index beside the shards.

    Raises:
        MissingFile: no such shard or folder.
        UserError: compressed shards (nothing in them can be found without reading all), or no usable sample.
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
            raise UserError(f"{self.what}: none of its {len(names)} samples is left for the split {split!r}")
        # One row per sample: shard, then offset and length of image, caption and class; caption's suffix as a number.
        self.names, self.places = names, np.frombuffer(places, np.int64).reshape(len(names), -1)[keep]
        names.keep(keep)

    def _usable(self, path: Path, index: ShardIndex) -> list[tuple[str, tuple[int, ...]]]:
        found: list[tuple[str, tuple[int, ...]]] = []
        for key, members in index.samples.items():
            image = next((members[suffix] for suffix in IMAGES if suffix in members), None)
            text = next((i for i, suffix in enumerate(TEXTS) if suffix in members), None)
            if image is None or ("caption" in self.give and text is None) or ("label" in self.give and "cls" not in members):
                lacking = "image" if image is None else "txt or json" if "caption" in self.give and text is None else "cls"
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

    def record(self, index: int) -> Record:
        captions: tuple[str, ...] = ()
        label = None
        try:
            if "caption" in self.give:
                caption = caption_in(self._member(index, 1), TEXTS[int(self.places[index, -1])])
                captions = (caption,) if isinstance(caption, str) else ()
            if "label" in self.give:
                label = class_in(self._member(index, 2))
        except (OSError, ValueError) as error:
            raise UnreadableImage(f"its caption or class cannot be read ({error})") from error
        return Record(self.names[index], Path(str(index)), label=label, captions=captions)

    def picture(self, record: Record) -> Picture:
        try:
            data = self._member(int(record.path.name), 0)
        except OSError as error:  # a shard that went away
            raise UnreadableImage(f"cannot be read ({error})") from error
        return read_image(io.BytesIO(data), self.channels)

    def original_size(self, index: int) -> tuple[int, int] | None:
        try:
            return size_of(self.picture(self.record(index)))
        except UnreadableImage:
            return None


def shard_paths(shards: str) -> list[Path]:
    """The shards that a folder, a pattern or braces stand for, sorted.

    Raises:
        MissingFile: none, or one of them is not there.
        UserError: they are compressed.
    """
    folder = Path(shards)
    if folder.is_dir():
        paths = sorted(folder.rglob("*.tar"))
    elif "*" in shards or "?" in shards:
        paths = sorted(Path(path) for path in glob.glob(shards, recursive=True))
    else:
        paths = [Path(url) for url in expand_urls(shards)]
    if not paths:
        raise MissingFile(f"shards {shards!r}: no .tar file there; put them there or set the path")
    if absent := [path for path in paths if not path.is_file()]:
        raise MissingFile(f"shards {shards!r}: {absent[0]} is not there ({len(absent)} of {len(paths)} lack)")
    if packed := [path for path in paths if path.suffix != ".tar"]:
        raise UserError(f"{packed[0]}: expected .tar: a compressed shard cannot be read from the middle; unpack it with gunzip")
    return paths
