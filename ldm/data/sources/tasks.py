"""Data sets for inpainting and super-resolution: any images, with masks or low-resolution versions computed on the fly."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any, Literal, get_args

import torch
from torch.utils.data import Dataset

from ldm.data.batch import Sample
from ldm.data.degrade import bicubic, bsr
from ldm.data.images import to_pixels, to_tensor
from ldm.data.masks import Kind, mask
from ldm.data.order import kinds
from ldm.ranges import integer
from ldm.rng import generator

Degradation = Literal["bicubic", "bsr", "bsr_light"]


class WithTask(Dataset[Sample], ABC):
    """Images whose samples are extended by random data.

    In training, it is a function of (seed, position in the run's order, sample id), and the images are augmented as usual. For a sample
    accessed by index only, it depends on its id only: a validation set is the same for every run, length and order.

    Args:
        images: any data set whose samples have `image` and `id`; None in `--check` if its files are missing.
        seed: seed outside training.
    """

    purpose: str  # names the randomness

    def __init__(self, images: Dataset[Sample], seed: int = 0) -> None:
        integer(0, seed=seed)
        self.images, self.parts, self.seed = images, [images], seed

    @abstractmethod
    def added(self, sample: Sample, random: torch.Generator) -> Sample:
        """The keys that are added to a sample."""

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Sample:
        sample = self.images[index]
        return {**sample, **self.added(sample, generator(self.seed, self.purpose, "fixed", sample["id"]))}

    def kinds(self) -> Sequence[Hashable]:
        """Kinds of the images, see `ldm.data.order.spread`."""
        return kinds(self.images)

    def varied(self, index: int, seed: int, place: int) -> Sample:
        """Sample `index` at a position in the run's order."""
        images: Any = self.images
        sample = images.varied(index, seed, place) if hasattr(images, "varied") else images[index]
        return {**sample, **self.added(sample, generator(seed, self.purpose, place, sample["id"]))}


class Inpainting(WithTask):
    """Images with masks (Sec. 4.5): adds `mask` `(1, H, W)`, 1 = to be filled, and `masked_image` `(C, H, W)`.

    Inside the mask, the masked image is -1 (black), because the original multiplies the image in [0, 1] by 1 - mask before it maps
    it to [-1, 1]; the known pixels are exactly those of the image.

    Args:
        images: any data set of images of at least 8x8 pixels.
        masks: "thin", "medium", "thick", "training" or "mixed" of LaMa's generator, or "box" or "half": `ldm.data.masks`; "given": `images`
            gives `mask`, too.
        seed: seed of the masks outside training.

    Raises:
        ValueError: an unknown kind of masks; from a sample, an image that is too small.
    """

    purpose = "mask"

    def __init__(self, images: Dataset[Sample], masks: Kind | Literal["given"] = "training", seed: int = 0) -> None:
        super().__init__(images, seed)
        if masks not in (*get_args(Kind), "given"):
            raise ValueError(f"masks {masks!r} are unknown: expected one of {', '.join(get_args(Kind))}, given")
        self.masks: Kind | Literal["given"] = masks

    def added(self, sample: Sample, random: torch.Generator) -> Sample:
        image = sample["image"]
        if self.masks == "given" and "mask" not in sample:
            raise ValueError(f"sample {sample['id']!r}: has no mask; with masks: given, images has to give it (give: [mask])")
        try:
            drawn = sample["mask"] if self.masks == "given" else mask(self.masks, (image.shape[1], image.shape[2]), random)
        except ValueError as error:
            raise ValueError(f"sample {sample['id']!r}: {error}") from error
        return {"mask": drawn, "masked_image": torch.where(drawn > 0, -1.0, image)}


class SuperResolution(WithTask):
    """Images with low-resolution versions (Sec. 4.4): adds `low_res` `(C, H / factor, W / factor)` in [-1, 1].

    Args:
        images: any data set of 8-bit images whose sides are divisible by the factor.
        factor: downsampling factor.
        degradation: "bicubic" (antialiased), or "bsr" or "bsr_light", the blind degradation of LDM-BSR in both strengths:
            `ldm.data.degrade`.
        seed: seed of the blind degradation outside training.

    Raises:
        ValueError: a factor below 2 or an unknown degradation; from a sample, an image whose sides the factor does not divide.
    """

    purpose = "degradation"

    def __init__(self, images: Dataset[Sample], factor: int = 4, degradation: Degradation = "bicubic", seed: int = 0) -> None:
        super().__init__(images, seed)
        integer(2, factor=factor)
        if degradation not in get_args(Degradation):
            raise ValueError(f"degradation {degradation!r} is unknown: expected one of {', '.join(get_args(Degradation))}")
        self.factor, self.degradation = factor, degradation

    def added(self, sample: Sample, random: torch.Generator) -> Sample:
        pixels = to_pixels(sample["image"])
        try:
            if self.degradation == "bicubic":
                low = bicubic(pixels, self.factor)
            else:
                low = bsr(pixels, random, self.factor, "light" if self.degradation == "bsr_light" else "full")
        except ValueError as error:
            raise ValueError(f"sample {sample['id']!r}: {error}") from error
        return {"low_res": to_tensor(low)}
