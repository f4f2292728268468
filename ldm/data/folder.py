"""Any folder of images: nested, with classes from subfolders and captions from sidecars or `metadata.jsonl`."""

import json
from pathlib import Path, PurePosixPath
from typing import Literal

import torch
from torch.utils.data import Dataset

from ldm.data.batch import Sample
from ldm.data.images import SUFFIXES, Crop, UnreadableImage, fit, read_image, square, to_tensor
from ldm.errors import MissingFile, UserError
from ldm.seeding import derive, generator


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error})") from error


class ImageFolder(Dataset[Sample]):
    """Images below a folder.

    A file that cannot be read is replaced by the next readable one; the batch then carries its name and the reason, and
    training counts it.

    Args:
        root: the folder; every image below it counts.
        size: side of the square crop, in pixels.
        resize: the shorter side is scaled to this first; `size` without it.
        crop: where the crop lies: "random" moves with the training step.
        flip: probability of mirroring left and right.
        channels: 3, or 1 for grey.
        labels: class index from the first folder level, in sorted order.
        captions: caption from `name.txt` beside the image, or else from `metadata.jsonl` in `root`.
        split: "all", or "train" / "validation" by a hash of the file's name.
        held_out: share of the files in "validation".
        zoom: in place of `resize` and `crop`, a square anywhere of this share to all of the shorter side, scaled to `size`;
            it moves and grows with the training step (the original's ImageNetSR: 0.5).
        smallest: images whose shorter side is below are skipped like those that cannot be read.

    Raises:
        MissingFile: no such folder.
        UserError: no image in it, or one without the caption that was asked for.
    """

    def __init__(
        self,
        root: str,
        size: int,
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
        channels: Literal[1, 3] = 3,
        labels: bool = False,
        captions: bool = False,
        split: Literal["all", "train", "validation"] = "all",
        held_out: float = 0.05,
        zoom: float | None = None,
        smallest: int = 0,
    ) -> None:
        self.root, self.size, self.resize = Path(root), size, resize or size
        self.crop: Crop = crop
        self.flip, self.channels, self.zoom, self.smallest = flip, channels, zoom, smallest
        if zoom is not None and (not 0 < zoom <= 1 or resize is not None or crop != "center"):
            raise UserError(f"ImageFolder: zoom must be a share between 0 and 1, without resize and crop; got {zoom}")
        if self.resize < size:
            raise UserError(f"ImageFolder: resize {self.resize} is smaller than size {size}")
        if not self.root.is_dir():
            raise MissingFile(f"image folder {root!r}: no such folder; put your images there or set its path")
        everything = sorted(p for p in self.root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file() and p.name[0] != ".")
        if not everything:
            raise UserError(f"image folder {root!r}: no image in it (looked for {', '.join(sorted(SUFFIXES))})")
        names = [p.relative_to(self.root).as_posix() for p in everything]
        held = {name for name in names if derive("held out", name) % 10**6 < held_out * 10**6}
        held = held or {min(names, key=lambda name: derive("held out", name))}  # a small folder holds out one image
        self.names = [name for name in names if split == "all" or (split == "validation") == (name in held)]
        if not self.names:
            raise UserError(f"image folder {root!r}: none of its {len(names)} images is left for the split {split!r}")
        classes = sorted({name.split("/")[0] for name in names if "/" in name})
        self.classes = {name: i for i, name in enumerate(classes)} if labels else {}
        if labels and (loose := [name for name in names if "/" not in name]):
            raise UserError(f"image folder {root!r}: labels come from subfolders, but {loose[0]!r} lies in none")
        self.captions = self._read_captions() if captions else {}

    def _read_captions(self) -> dict[str, str]:
        found = {}
        metadata = self.root / "metadata.jsonl"
        if metadata.is_file():
            for number, line in enumerate(_text(metadata).split("\n"), 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                    name, caption = PurePosixPath(row["file_name"]).as_posix(), row["caption"]
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(f'{metadata}:{number}: expected {{"file_name": ..., "caption": ...}} ({error})') from error
                if not isinstance(caption, str):
                    raise UserError(f"{metadata}:{number}: caption: expected a string, got {caption!r}")
                found[name] = caption
        for name in self.names:
            sidecar = (self.root / name).with_suffix(".txt")
            if sidecar.is_file():
                found[name] = _text(sidecar).strip()
        without = [name for name in self.names if name not in found]
        if without:
            raise UserError(
                f"{self.root}: {len(without)} images have no caption (no .txt beside them, not in metadata.jsonl): {without[0]}"
            )
        return found

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        return self.varied(index, 0, 0)

    def varied(self, index: int, seed: int, place: int) -> Sample:
        """Sample `index` with the crop and flip of a place in the run's order."""
        skipped: list[str] = []
        for attempt in range(len(self.names)):
            name = self.names[(index + attempt) % len(self.names)]
            try:
                return self._load(name, seed, place) | ({"skipped": skipped} if skipped else {})
            except UnreadableImage as error:
                skipped.append(f"{self.root / name}: {error}")
        raise UserError(f"image folder {str(self.root)!r}: none of its {len(self.names)} images can be read; the first: {skipped[0]}")

    def _load(self, name: str, seed: int, place: int) -> Sample:
        x, y, mirror, growth = torch.rand(4, generator=generator(seed, "augmentation", place, name)).tolist()
        picture = read_image(self.root / name, self.channels)
        if min(picture.size) < self.smallest:
            raise UnreadableImage(f"only {picture.width}x{picture.height} pixels, the shorter side must have {self.smallest}")
        if self.zoom is None:
            image = to_tensor(fit(picture, self.resize, self.size, self.crop, (x, y)))
        else:
            image = to_tensor(square(picture, self.size, self.zoom + (1 - self.zoom) * growth, (x, y)))
        sample: Sample = {"image": image.flip(2) if mirror < self.flip else image, "id": name}
        if self.classes:
            sample["label"] = self.classes[name.split("/")[0]]
        if self.captions:
            sample["caption"] = self.captions[name]
        return sample
