"""Pairs of images in high and low resolution."""

from pathlib import Path
from typing import Literal

import torch

from ldm.data.annotated import Annotation, cut, size_of
from ldm.data.batch import Sample
from ldm.data.files import require
from ldm.data.listing import Listing
from ldm.data.reading import Split
from ldm.data.sources.annotated_folder import RecordList
from ldm.data.transforms import Crop, Size, UnreadableImage, View
from ldm.ranges import share
from ldm.rng import generator


class PairedResolutions(RecordList):
    """Images in one folder and their low-resolution versions in another, under the same names except for the suffix.

    Gives `low_res` `(C, H / f, W / f)` beside `image`. Nothing is scaled: both are cut at the same place, at random if the image is
    larger than `size`. A pair whose sides do not differ by the same integer factor f is treated like an unreadable image.

    Args:
        root: folder of the images, also nested.
        low: folder of their low-resolution versions.
        size: side of the square crop, or height and width of another one; multiples of the factor.
        flip: probability of a horizontal flip.
        channels, depth: see `ldm.data.annotated.Annotated`.
        split: "all", or "train" / "validation" by a hash of the file's name.
        held_out: share of the files in "validation".

    Raises:
        MissingFile: one of the folders is missing.
        UserError: no image has a low-resolution version.
    """

    def __init__(
        self,
        root: str,
        low: str,
        size: Size,
        flip: float = 0.0,
        split: Split = "all",
        held_out: float = 0.05,
        channels: Literal[1, 3, 4] = 3,
        depth: Literal[8, 16] = 8,
    ) -> None:
        share(held_out=held_out)
        crop: Crop = "random" if split == "train" else "center"
        super().__init__(f"image folder {root!r}", [], size, flip=flip, channels=channels, crop=crop, depth=depth)
        listing = Listing(require(Path(root), "image folder"), self.broken)
        below = Path(require(Path(low), "folder of low-resolution images"))
        versions = {str(Path(name).with_suffix("")): name for name in Listing(below, self.broken).pictures}
        self.low = {name: below / versions[stem] for name in listing.pictures if (stem := str(Path(name).with_suffix(""))) in versions}
        self.records = [Annotation(name, Path(root) / name) for name in self.low]
        self.broken += [f"{Path(root) / name}: no low-resolution version in {low}" for name in listing.pictures if name not in self.low]
        self.others = listing.others()
        self.choose(split, held_out)

    def read(self, index: int, seed: int, place: int) -> Sample:
        record = self.record(index)
        x, y, mirror = torch.rand(3, generator=generator(seed, "augmentation", place, record.name)).tolist()
        image, low = self.picture(record), self.picture(Annotation(record.name, self.low[record.name]))
        factors = {large / small for large, small in zip(size_of(image), size_of(low), strict=True)}
        factor, shown = int(min(factors)), "{1}x{0}".format(*self.size)
        if factors != {factor} or factor < 2 or any(side % factor for side in self.size):
            sizes = " and ".join(f"{width}x{height}" for width, height in (size_of(image), size_of(low)))
            raise UnreadableImage(f"{sizes} pixels: expected an integer factor of at least 2 that divides {shown}")
        if any(side < least for side, least in zip(size_of(image), self.size[::-1], strict=True)):
            raise UnreadableImage(f"{size_of(image)[0]}x{size_of(image)[1]} pixels, smaller than {shown}")
        shares = (x, y) if self.crop == "random" else (0.5, 0.5)
        reduced = self.size[0] // factor, self.size[1] // factor
        left, top = (round(share * (side - part)) for share, side, part in zip(shares, size_of(low), reduced[::-1], strict=True))
        mirrored = mirror < self.flip
        small = View(*size_of(low), left, top, reduced, mirrored)
        large = View(*size_of(image), left * factor, top * factor, self.size, mirrored)
        return {"image": cut(image, large), "low_res": cut(low, small), "id": record.name}
