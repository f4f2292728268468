"""Any folder of images: nested, with classes from subfolders and captions from sidecars or `metadata.jsonl` or `.csv`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ldm.data.annotated import Annotated, Annotation, Picture, size_of
from ldm.data.files import path_hint, read_text
from ldm.data.listing import METADATA, SIDECARS, Listing
from ldm.data.metadata import read_metadata
from ldm.data.reading import Split
from ldm.data.transforms import Crop, Size, UnreadableImage, View, zoomed
from ldm.errors import MissingFile, UserError
from ldm.ranges import integer, share
from ldm.system.image_files import counted


class ImageFolder(Annotated):
    """Images below a folder.

    A file that cannot be read is replaced by the next readable one; the batch then carries its name and the reason, and
    training counts it. Images without a requested caption are skipped and listed in `broken`.

    Args:
        root: the folder; every image below it is used, in any format that Pillow opens (and HEIF, if pillow-heif is installed).
        size, resize, crop, flip: see `ldm.data.annotated.Annotated`.
        channels: 3, 1 for grey, or 4 to keep transparency as the fourth channel (opaque is 1).
        depth: 8, or 16 with one channel: see `ldm.data.annotated.Annotated`.
        labels: class index from the first folder level, in the order of their names as text (10 before 9, as in torchvision);
            a folder without images is not a class.
        captions: caption from `name.txt` or `name.caption` beside the image, or else from `metadata.jsonl` or `metadata.csv` in
            `root` or below (the first line that names it); of several captions one is drawn at each position in the order.
        split: "all", or "train" / "validation" by a hash of the file's name.
        held_out: share of the files in "validation".
        zoom: instead of `resize` and `crop`, a random crop with sides between this share and all of the largest that has the aspect
            ratio of `size`, scaled to `size`; it changes with the training step (the original's ImageNetSR: 0.5).
        smallest: images with a smaller shorter side are skipped like unreadable ones.

    Raises:
        MissingFile: no such folder.
        UserError: no image in it, or none with the requested class or caption.
    """

    def __init__(
        self,
        root: str,
        size: Size,
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
        channels: Literal[1, 3, 4] = 3,
        labels: bool = False,
        captions: bool = False,
        split: Split = "all",
        held_out: float = 0.05,
        zoom: float | None = None,
        smallest: int = 0,
        depth: Literal[8, 16] = 8,
    ) -> None:
        give = [key for key, given in (("label", labels), ("caption", captions)) if given]
        super().__init__(f"image folder {root!r}", give, size, resize, crop, flip, channels, depth=depth)
        integer(0, smallest=smallest)
        share(held_out=held_out)
        self.root, self.zoom, self.smallest = Path(root), zoom, smallest
        if zoom is not None and (not 0 < zoom <= 1 or resize is not None or crop != "center"):
            raise UserError(f"ImageFolder: zoom must be a share between 0 and 1, without resize and crop; got {zoom}")
        if not self.root.is_dir():
            raise MissingFile(f"image folder {root!r}: no such folder{path_hint(self.root)}; put your images there or set its path")
        listing = Listing(self.root, self.broken)
        names = listing.pictures
        self.others = listing.others(*((*METADATA, *SIDECARS) if captions else ()))
        if not names:
            raise UserError(f"image folder {root!r}: no image in it" + (f", but {counted(self.others)}" if self.others else ""))
        self.names = [names[i] for i in self.in_split(names, split, held_out)]
        self.classes = self._read_classes(names) if labels else {}
        self.captions = self._read_captions(listing) if captions else {}
        total = len(self.names)
        self.names = [name for name in self.names if name in self.captions] if captions else self.names
        self.report_found(len(self.names), total, split, len(names), self.captions.values())

    def _read_classes(self, names: list[str]) -> dict[str, int]:
        if loose := [name for name in names if "/" not in name]:
            raise UserError(f"{self.what}: labels come from subfolders, but {loose[0]!r} is not in one")
        classes = sorted({name.split("/")[0] for name in names})
        folders = sorted(entry.name for entry in self.root.iterdir() if entry.is_dir() and entry.name[0] != ".")
        self.broken += [f"{self.root / name}: no image in it, so it is not a class" for name in folders if name not in classes]
        self.class_names["label"] = classes
        return {name: i for i, name in enumerate(classes)}

    def _read_captions(self, listing: Listing) -> dict[str, tuple[str, ...]]:
        records = read_metadata(listing, listing.metadata(), ("caption",), {})
        found = {record.file: tuple(record.captions) for record in reversed(records)}  # the first line of a file takes precedence
        advice = "" if found else path_hint(self.root / METADATA[0])
        for name in self.names:
            sidecar, stem = listing.sidecar(name), Path(name).stem
            try:
                if sidecar is not None:
                    found[name] = (read_text(self.root / sidecar).strip(),)
                elif name not in found:
                    looked_for = f"no {' or '.join(stem + suffix for suffix in SIDECARS)} beside it, not in {' or '.join(METADATA)}"
                    self.broken.append(f"{self.root / name}: no caption ({looked_for}){advice}")
            except (UserError, OSError) as error:
                found.pop(name, None)
                self.broken.append(str(error))
        return {name: found[name] for name in self.names if name in found}

    def kinds(self) -> Sequence[str]:
        return [name.split("/")[0] if "/" in name else "" for name in self.names]

    def __len__(self) -> int:
        return len(self.names)

    def record(self, index: int) -> Annotation:
        name = self.names[index]
        return Annotation(name, self.root / name, self.classes.get(name.split("/")[0]), self.captions.get(name, ()))

    def picture(self, record: Annotation) -> Picture:
        picture = super().picture(record)
        if min(size := size_of(picture)) < self.smallest:
            raise UnreadableImage(f"only {size[0]}x{size[1]} pixels, the shorter side must have {self.smallest}")
        return picture

    def view(self, picture: tuple[int, int], random: tuple[float, float], mirrored: bool, growth: float) -> View:
        if self.zoom is None:
            return super().view(picture, random, mirrored, growth)
        return zoomed(picture, self.size, self.zoom + (1 - self.zoom) * growth, random, mirrored)
