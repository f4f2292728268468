"""A small feature extractor trained here, for machines without Inception or VGG weights. Its distances are not FID or LPIPS.

It learns to classify which image a patch was cut from, under noise and changes of brightness and colour, which takes texture and
edges: what the distances should depend on.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ldm.rng import generator


class SmallExtractor(nn.Module):
    """Images `(B, C, H, W)` in [-1, 1] -> feature maps of three scales, and logits over the training images.

    Args:
        classes: number of training images.
        channels: of the images.
        width: of the first scale, doubled by each further one.
    """

    def __init__(self, classes: int, channels: int = 3, width: int = 32) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(cin, cout, 3, padding=1), nn.GroupNorm(8, cout), nn.SiLU(), nn.Conv2d(cout, cout, 3, padding=1), nn.SiLU()
            )
            for cin, cout in zip(widths, widths[1:], strict=False)
        )
        self.head = nn.Linear(widths[-1], classes)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Feature maps, finest first, each half the size of the one before."""
        found = []
        for i, stage in enumerate(self.stages):
            x = stage(x if i == 0 else F.avg_pool2d(x, 2))
            found.append(x)
        return found

    def features(self, x: Tensor, where: Tensor | None = None) -> Tensor:
        """One vector per image, `(B, 4 width)`: the mean of the coarsest map, over `where` `(B, 1, H, W)` if given."""
        coarse = self.maps(x)[-1]
        return coarse.mean((2, 3)) if where is None else mean_where(coarse, where)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@dataclass(frozen=True)
class Trained:
    """An extractor, and its accuracy on held-out patches beside chance."""

    net: SmallExtractor
    accuracy: float
    chance: float


def augmented(x: Tensor, g: torch.Generator) -> Tensor:
    """Augmented patches `(B, C, H, W)`: channels mixed by averages with random weights, brightness shifted, a little noise added."""
    mixing = torch.rand(len(x), x.shape[1], x.shape[1], generator=g)
    x = torch.einsum("bij,bjhw->bihw", mixing / mixing.sum(2, keepdim=True), x)
    shift = 0.2 * torch.randn(len(x), 1, 1, 1, generator=g)
    return (x + shift + 0.05 * torch.randn(x.shape, generator=g)).clamp(-1, 1)


def train_extractor(
    patches: Tensor, sources: Tensor, held_out: Tensor, held_out_sources: Tensor, steps: int = 400, seed: int = 0
) -> Trained:
    """Train to classify the source of a patch.

    Args:
        patches: `(N, C, H, W)` in [-1, 1]; sources `(N,)` int64 from 0.
        held_out, held_out_sources: of parts of the images that no training patch covers.
        steps: of Adam, batch 64.
        seed: of weights and order.
    """
    g = generator("extractor", seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classes = int(sources.max()) + 1
        net = SmallExtractor(classes, patches.shape[1])
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in tqdm(range(steps), desc="extractor", unit="step", disable=None, leave=False):
        chosen = torch.randint(len(patches), (64,), generator=g)
        loss = F.cross_entropy(net(augmented(patches[chosen], g)), sources[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval().requires_grad_(False)
    right = torch.cat([net(part).argmax(1) for part in held_out.split(256)]) == held_out_sources
    return Trained(net, float(right.float().mean()), 1.0 / classes)


@torch.no_grad()
def perceptual_distance(net: SmallExtractor, x: Tensor, y: Tensor, where: Tensor | None = None) -> Tensor:
    """Mean squared distance of normalised feature maps over all scales, `(B,)`.

    Args:
        net: the extractor.
        x, y: `(B, C, H, W)` in [-1, 1].
        where: `(B, 1, H, W)`, 1 where the distance counts; None is everywhere.
    """
    total = torch.zeros(len(x))
    for a, b in zip(net.maps(x), net.maps(y), strict=True):
        a, b = (F.normalize(m, dim=1) for m in (a, b))
        gap = (a - b).square().sum(1, keepdim=True)
        total += gap.mean((1, 2, 3)) if where is None else mean_where(gap, where)[:, 0]
    return total / len(net.stages)


def mean_where(x: Tensor, where: Tensor) -> Tensor:
    """Mean of maps `(B, C, h, w)` over a mask `(B, 1, H, W)`, cells weighted by their share in it: `(B, C)`."""
    weight = F.interpolate(where, size=x.shape[2:], mode="area")
    return (x * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1e-8)
