"""Super-resolution and inpainting on held-out photographs and scenes, compared with baselines that need no model.

The perceptual and Frechet distances use a small feature extractor that is trained here on the training part of the photographs: they
are neither LPIPS nor FID, and cannot be compared with them.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from demos.measured import Measured, mean, standard_error
from demos.run import reconstructed, sample
from ldm.checkpoint.load import LoadedModel
from ldm.data.batch import Batch, collate
from ldm.data.grid import save_grid
from ldm.data.sources.photographs import Photographs
from ldm.data.sources.scenes import Scenes
from ldm.data.sources.tasks import Inpainting, SuperResolution
from ldm.evaluation.distances import frechet_distance
from ldm.evaluation.paired import psnr, ssim
from ldm.evaluation.small_extractor import Trained, perceptual_distance, train_extractor

SIZE = 32
SHOWN = 16  # images in a picture
SEEDS = range(6)  # samples of each low-resolution image
MASKS = range(4)  # for each image
EXTRACTOR = "a small extractor trained on the photographs' training part (neither LPIPS nor FID)"


@cache
def extractor() -> Trained:
    """A classifier of the photograph of a patch, trained deterministically."""
    train, held_out = Photographs("train", SIZE, length=6000, seed=1), Photographs("validation", SIZE)
    parts = [
        (as_batch(patches)["image"], torch.tensor([patches.place(i)[0] for i in range(len(patches))])) for patches in (train, held_out)
    ]
    return train_extractor(*parts[0], *parts[1])


def extractor_record() -> dict[str, Any]:
    """The extractor and its accuracy, for a summary."""
    trained = extractor()
    return {"extractor": EXTRACTOR, "extractor_accuracy": trained.accuracy, "extractor_chance": trained.chance}


def measure_superres(loaded: LoadedModel, outdir: Path, count: int) -> Measured:
    """Enlarge held-out images by 4; sharp and near, against bicubic."""
    sets = held_out(count // 4)
    others: dict[str, Any] = {"samples_per_image": len(SEEDS), **extractor_record()}
    pictures = {}
    for name, images in sets.items():
        batch = as_batch(SuperResolution(images))
        drawn = torch.stack([sample(loaded, batch, len(images), SIZE, seed) for seed in SEEDS])
        others[name], grid = compare_enlarged(batch["image"], batch["low_res"], drawn, reconstructed(loaded, batch["image"]))
        save_grid(grid, outdir / f"superres-{name}.png", columns=SHOWN)
        pictures[f"Super-resolution of {name}: low resolution, bicubic, two samples, original"] = outdir / f"superres-{name}.png"
    own = others["photographs"]
    metric = f"perceptual distance to the original on held-out photograph patches, mean over single samples, over {EXTRACTOR}"
    return Measured(metric, own["sample"]["perceptual"], own["bicubic"]["perceptual"], "bicubic enlargement", False, others, pictures)


def compare_enlarged(truth: Tensor, low: Tensor, drawn: Tensor, again: Tensor) -> tuple[dict[str, Any], Tensor]:
    """Metrics of `drawn` `(S, N, C, H, W)`, of their mean and of bicubic; and a grid of images.

    Args:
        truth, again: originals `(N, C, H, W)` and their reconstructions by the first stage.
        low: low-resolution images.
        drawn: S samples of each image.
    """
    smooth = enlarge(low, truth.shape[2] // low.shape[2])
    net = extractor().net
    kinds = {"sample": list(drawn), "mean_of_samples": [drawn.mean(0)], "bicubic": [smooth], "first_stage": [again]}
    found: dict[str, Any] = {"images": len(truth)}
    for kind, several in kinds.items():
        distances = torch.stack([perceptual_distance(net, x, truth) for x in several]).mean(0)
        found[kind] = {
            "perceptual": mean(distances),
            "perceptual_standard_error": standard_error(distances),
            "ssim": mean(torch.stack([ssim(x, truth) for x in several]).mean(0)),
            "psnr_db": mean(torch.stack([psnr(x, truth) for x in several]).mean(0)),
        }
    pick = torch.linspace(0, len(truth) - 1, SHOWN).long()
    blocks = low.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return found, torch.cat([x[pick] for x in (blocks, smooth, drawn[0], drawn[1], truth)])


def measure_inpaint(loaded: LoadedModel, outdir: Path, count: int, name: str = "inpaint") -> Measured:
    """Inpaint held-out images; compared inside the mask with the mean colour and a blur. `name` is a prefix of picture files."""
    sets = held_out(count // 8)
    others: dict[str, Any] = {"masks": "thick", "masks_per_image": len(MASKS), **extractor_record()}
    pictures = {}
    for kind, images in sets.items():
        batches = [as_batch(Inpainting(images, "thick", seed)) for seed in MASKS]
        batch = {key: torch.cat([b[key] for b in batches]) for key in ("image", "mask", "masked_image")}
        image, mask = batch["image"], batch["mask"]
        filled = torch.where(mask > 0, sample(loaded, batch, len(image), SIZE, seed=0), image)
        fills = {"sample": filled, "mean_fill": fill_mean(image, mask), "blur": fill_blur(image, mask)}
        others[kind] = {"images": len(image), **{way: compare_filled(x, image, mask) for way, x in fills.items()}}
        pick = torch.linspace(0, len(image) - 1, SHOWN).long()
        shown = [batch["masked_image"], *(fills[key] for key in ("mean_fill", "blur", "sample")), image]
        save_grid(torch.cat([x[pick] for x in shown]), (file := outdir / f"{name}-{kind}.png"), columns=SHOWN)
        pictures[f"{name}, {kind}: masked, mean fill, blur, sample, original"] = file
    own = others["photographs"]
    best = min(own[kind]["perceptual"] for kind in ("mean_fill", "blur"))
    metric = f"perceptual distance to the original inside the mask on held-out photograph patches, over {EXTRACTOR}"
    return Measured(metric, own["sample"]["perceptual"], best, "the better of mean fill and blur", False, others, pictures)


def compare_filled(filled: Tensor, truth: Tensor, mask: Tensor) -> dict[str, float]:
    """Metrics inside the mask."""
    net = extractor().net
    distances = perceptual_distance(net, filled, truth, mask)
    return {
        "perceptual": mean(distances),
        "perceptual_standard_error": standard_error(distances),
        "frechet": frechet_distance(net.features(filled, mask), net.features(truth, mask)),
        "frechet_samples": len(filled),
        "l1_error": mean(error_inside(filled, truth, mask)),
    }


def error_inside(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error where `mask` `(B, 1, H, W)` is 1, per image `(B,)`; of [-1, 1], so 2 at most."""
    gap = ((x - y).abs() * mask).sum((1, 2, 3))
    return gap / (mask.sum((1, 2, 3)) * x.shape[1])


def enlarge(low: Tensor, factor: int) -> Tensor:
    """Bicubic enlargement `(B, C, h, w)` -> `(B, C, factor h, factor w)`, within [-1, 1]."""
    return F.interpolate(low, scale_factor=factor, mode="bicubic", antialias=True).clamp(-1, 1)


def fill_mean(image: Tensor, mask: Tensor) -> Tensor:
    """Fill the hole with the mean colour of the known pixels; `(B, C, H, W)` and `(B, 1, H, W)`, 1 = hole."""
    known = 1 - mask
    mean = (image * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True)
    return torch.where(mask > 0, mean, image)


def fill_blur(image: Tensor, mask: Tensor, sigma: float = 1.5) -> Tensor:
    """Fill the hole with a Gaussian average of the known pixels, whose sigma is doubled where it reaches none of them.

    Args:
        image, mask: `(B, C, H, W)` and `(B, 1, H, W)`, 1 = hole; each image has a known pixel.
        sigma: of the first blur, in pixels.
    """
    filled, left, known = image * (1 - mask), mask.bool(), 1 - mask
    while left.any():
        side = min(2 * round(3 * sigma) + 1, 2 * min(image.shape[2:]) - 1)
        weight = gaussian_blur(known, [side, side], [sigma, sigma])
        average = gaussian_blur(image * known, [side, side], [sigma, sigma]) / weight.clamp(min=1e-12)
        now = left & (weight > 1e-3)
        filled, left, sigma = torch.where(now, average, filled), left & ~now, 2 * sigma
    return filled


def held_out(scenes: int) -> dict[str, Any]:
    """Held-out photograph patches and scenes."""
    fresh = Scenes(max(SHOWN, scenes), SIZE, "validation", seed=1, give=[])
    return {"photographs": Photographs("validation", SIZE), "scenes": fresh}


def as_batch(images: Any) -> Batch:
    """All samples of a data set as one batch."""
    return collate([images[i] for i in range(len(images))])
