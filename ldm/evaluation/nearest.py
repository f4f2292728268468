"""The nearest training images of each sample in a feature space, as in figures 32-34 for VGG16."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ldm.errors import UserError
from ldm.evaluation.scan import Scan
from ldm.system.files import save_png


def nearest(samples: Tensor, among: Tensor, k: int = 10, block: int = 4096, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Euclidean distances to, and numbers of, the k nearest of `among`.

    Args:
        samples, among: features `(N, d)` and `(M, d)`.
        k: at most M.
        block: rows of either at a time, which limits the memory.
        device: where it is computed.

    Returns:
        `(N, k)` float64, nearest first, and `(N, k)` int64.

    Raises:
        UserError: fewer than k images.
    """
    if not 1 <= k <= len(among):
        raise UserError(f"{k} nearest images of {len(among)}: expected 1 to {len(among)}")
    found = []
    for rows in samples.split(block):
        here, best = rows.double().to(device), None
        for first in range(0, len(among), block):
            there = among[first : first + block].double().to(device)
            # by differences, not by products: the distance of an image to its copy is exactly 0
            distances = torch.cdist(here, there, compute_mode="donot_use_mm_for_euclid_dist")
            numbers = torch.arange(first, first + len(there), device=device).expand_as(distances)
            if best is not None:
                distances, numbers = torch.cat([best[0], distances], dim=1), torch.cat([best[1], numbers], dim=1)
            near = distances.topk(min(k, distances.shape[1]), dim=1, largest=False)
            best = near.values, numbers.gather(1, near.indices)
        assert best is not None
        found.append(best)
    return torch.cat([one[0] for one in found]).cpu(), torch.cat([one[1] for one in found]).cpu()


def draw_nearest(samples: Scan, reference: Scan, indices: Tensor, path: Path, rows: int = 8) -> None:
    """A PNG with a row per sample: the sample on the left, then its nearest images, nearest first."""
    shown = torch.linspace(0, len(samples) - 1, min(rows, len(samples))).round().long().unique().tolist()
    gap = torch.full((3, samples.size[1], 4), 255, dtype=torch.uint8)
    lines = [torch.cat([*samples.batch([i]), gap, *reference.batch(indices[i].tolist())], dim=2) for i in shown]
    save_png(path, Image.fromarray(torch.cat(lines, dim=1).permute(1, 2, 0).numpy()))
