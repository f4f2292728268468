"""The training images next to each sample, in a feature space: what figures 32-34 show for VGG16's."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ldm.errors import UserError
from ldm.evaluation.scan import Scan
from ldm.files import write_whole


def nearest(samples: Tensor, among: Tensor, k: int = 10, block: int = 1024, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Euclidean distances to, and numbers of, the k nearest of `among`.

    Args:
        samples, among: features `(N, d)` and `(M, d)`.
        k: at most M.
        block: rows at a time.
        device: that computes.

    Returns:
        `(N, k)` float64, nearest first, and `(N, k)` int64.

    Raises:
        UserError: fewer than k images.
    """
    if not 1 <= k <= len(among):
        raise UserError(f"{k} nearest images of {len(among)}: expected 1 to {len(among)}")
    there = among.double().to(device)
    found = []
    for rows in samples.split(block):
        # by differences, not by products: the distance of an image to its copy is exactly 0
        distances = torch.cdist(rows.double().to(device), there, compute_mode="donot_use_mm_for_euclid_dist")
        found.append(distances.topk(k, dim=1, largest=False))
    return torch.cat([one.values for one in found]).cpu(), torch.cat([one.indices for one in found]).cpu()


def draw_nearest(samples: Scan, reference: Scan, indices: Tensor, path: Path, rows: int = 8) -> None:
    """A PNG: a sample to the left of each row, its nearest images beside it, nearest first."""
    shown = torch.linspace(0, len(samples) - 1, min(rows, len(samples))).round().long().unique().tolist()
    (w, h), (x, y) = samples.size, reference.size
    sheet = Image.new("RGB", (w + 4 + indices.shape[1] * x, len(shown) * max(h, y)), "white")
    for row, i in enumerate(shown):
        top = row * max(h, y)
        sheet.paste(Image.fromarray(samples.batch([i])[0].permute(1, 2, 0).numpy()), (0, top))
        for column, image in enumerate(reference.batch(indices[i].tolist())):
            sheet.paste(Image.fromarray(image.permute(1, 2, 0).numpy()), (w + 4 + column * x, top))
    write_whole(path, lambda beside: sheet.save(beside, format="PNG"))
