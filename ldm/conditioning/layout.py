"""Layouts (Sec. 4.3.2, App. E.2.1): labelled boxes as tokens for the paper's transformer."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ldm.conditioning.base import Conditioner, Conditioning, Encode, narrow_transformer
from ldm.data.batch import Batch, Key
from ldm.nn.transformer import TokenTransformer
from ldm.ranges import integer, share


class BoxTokenizer:
    """Boxes -> three tokens each: class, top left corner, bottom right corner; then two for the crop.

    A corner is a cell of a square grid over the image, numbered row by row. Class and corner tokens share one vocabulary, whose
    last token pads the places of absent objects (the "conditional builder" of taming-transformers, Tab. 17: 92 = 30 x 3
    + 2).

    Args:
        max_objects: maximum number of objects; further ones are dropped.
        vocabulary: number of tokens; the grid is as fine as it allows.
        crop: append the corners of the crop, which is always the full image here.
    """

    def __init__(self, max_objects: int = 30, vocabulary: int = 8192, crop: bool = True) -> None:
        integer(max_objects=max_objects)
        integer(2, vocabulary=vocabulary)
        self.max_objects, self.vocabulary_size, self.crop = max_objects, vocabulary, crop
        self.grid = int(vocabulary**0.5)
        self.length = 3 * max_objects + 2 * int(crop)

    @property
    def classes(self) -> int:
        """Number of classes that the vocabulary has tokens for: all but the padding token."""
        return self.vocabulary_size - 1

    def corner(self, x: float, y: float) -> int:
        """Token of a point given as fractions of width and height."""
        column, row = (round(min(max(v, 0.0), 1.0) * (self.grid - 1)) for v in (x, y))
        return int(row * self.grid + column)

    def __call__(self, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
        """B tensors of boxes `(n, 4)`, xyxy in [0, 1], and B of class indices `(n,)` -> `(B, length)` int64."""
        rows = []
        for box, label in zip(boxes, labels, strict=True):
            row: list[int] = []
            for (x0, y0, x1, y1), kind in list(zip(box.tolist(), label.tolist(), strict=True))[: self.max_objects]:
                row += [int(kind), self.corner(x0, y0), self.corner(x1, y1)]
            row += [self.vocabulary_size - 1] * (3 * self.max_objects - len(row))
            rows.append(row + ([self.corner(0.0, 0.0), self.corner(1.0, 1.0)] if self.crop else []))
        return torch.tensor(rows, dtype=torch.int64)


class LayoutTransformer(Conditioner):
    """Labelled boxes -> tokens `(B, length, width)`, trained together with the network; the null condition is no boxes.

    Args:
        tokenizer: boxes to ids.
        width, depth, heads, head_channels: of the transformer.
        uncond_prob: share of training samples that lose all boxes.
        logit_head: see `TokenTransformer`.
    """

    def __init__(
        self,
        tokenizer: BoxTokenizer,
        width: int,
        depth: int,
        heads: int = 8,
        head_channels: int = 64,
        uncond_prob: float = 0.0,
        logit_head: bool = False,
    ) -> None:
        super().__init__()
        share(uncond_prob=uncond_prob)
        self.boxes, self.uncond_prob, self.context_channels = tokenizer, uncond_prob, width
        self.length = tokenizer.length
        self.keys = {
            "boxes": Key(shape=("n", 4), null=0.0, low=0.0, high=1.0),
            "box_labels": Key(torch.int64, ("n",), 0, 0, tokenizer.classes - 1),
        }
        size = (tokenizer.vocabulary_size, tokenizer.length)
        self.transformer = TokenTransformer(*size, width, depth, heads, head_channels, logit_head)

    narrow = staticmethod(narrow_transformer)

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        ids = self.boxes(batch["boxes"], batch["box_labels"])
        return Conditioning(context=self.transformer(ids.to(self.transformer.tokens.weight.device)))
