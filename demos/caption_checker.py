"""Whether images show the captions of procedural scenes, by the pixel checker of `ldm.evaluation.scenes`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ldm.data.sources.scenes import COLOURS, PLACES, SHAPES
from ldm.evaluation.scenes import find


@dataclass(frozen=True)
class SceneObject:
    """One object of a caption."""

    shape: str
    colour: str
    place: str


def parse(caption: str) -> list[SceneObject]:
    """The objects of a caption in the scenes' grammar.

    Raises:
        ValueError: a caption of another grammar.
    """
    requested = []
    for part in re.split(r"\band\b", caption.lower()):
        words = re.findall(r"\w+", part)
        hits = [[w for w in words if w in names] for names in (SHAPES, COLOURS, PLACES)]
        if any(len(hit) != 1 for hit in hits):
            raise ValueError(f"not a caption of the scenes' grammar: {caption!r}")
        requested.append(SceneObject(*(hit[0] for hit in hits)))
    return requested


@dataclass(frozen=True)
class Verdict:
    """Whether one image shows one caption, by property; true if it holds for every requested object."""

    shape: bool
    colour: bool
    place: bool
    all: bool


def judge(image: Tensor, caption: str) -> Verdict:
    """Compare an image `(3, H, W)` in [-1, 1] with a caption.

    Every requested object is matched with the found object at its place. All is right when each match agrees in shape and
    colour and the image shows nothing else.
    """
    requested, found = parse(caption), find(image)
    at = {place: [thing for thing in found if thing.place == place] for place in PLACES}
    matches = [at[want.place][0] if len(at[want.place]) == 1 else None for want in requested]
    place = all(match is not None for match in matches) and len(found) == len(requested)
    shape = sorted(w.shape for w in requested) == sorted(f.shape for f in found)
    colour = sorted(w.colour for w in requested) == sorted(f.colour for f in found)
    exact = place and all(m and m.shape == w.shape and m.colour == w.colour for m, w in zip(matches, requested, strict=True))
    return Verdict(shape, colour, place, bool(exact))


def share_right(images: Tensor, captions: Sequence[str]) -> dict[str, float]:
    """Shares of images `(N, 3, H, W)` that show their caption in shape, colour, place and in all three."""
    both = zip(tqdm(images.cpu(), desc="checking", unit="image", disable=None, leave=False), captions, strict=True)
    verdicts = [judge(image, text) for image, text in both]
    table = torch.tensor([[v.shape, v.colour, v.place, v.all] for v in verdicts], dtype=torch.float64)
    return dict(zip(("shape", "colour", "place", "all"), table.mean(dim=0).tolist(), strict=True))
