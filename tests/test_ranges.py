"""Numbers of tiles, masks and degradations are compared with their ranges where they are taken."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ldm.data.degrade import STRENGTHS, bicubic
from ldm.data.masks import RECIPES, mask
from ldm.diffusion import Tiles

RECIPE, STRENGTH = RECIPES["thick"][256], STRENGTHS["light"]
WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Tiles(0, 0), "size of tiles must be at least 1"),
    (lambda: Tiles(8.0, 4), "size of tiles must be an integer"),  # type: ignore[arg-type]
    (lambda: Tiles(8, -2), "overlap must be at least 0"),
    (lambda: Tiles(8, 4, multiple=0), "multiple must be at least 1"),
    (lambda: Tiles(8, 4, 0), "tiles at a time must be at least 1"),
    (lambda: Tiles(8, 8), "must be smaller than the tile"),
    (lambda: mask("thick", (16.0, 16), torch.Generator()), "height must be an integer"),  # type: ignore[arg-type]
    (lambda: replace(RECIPE, strokes=(3, 1)), "strokes must be two numbers, the smaller one first"),
    (lambda: replace(RECIPE, boxes=(-1, 1)), r"boxes\[0\] must be at least 0"),
    (lambda: replace(RECIPE, length=float("nan")), "length must be"),
    (lambda: replace(RECIPE, box_share=1.5), "box_share must be a number from 0 to 1"),
    (lambda: replace(RECIPE, most=0.0), "most must be a number above 0"),  # no mask is so small: it would be drawn again for ever
    (lambda: replace(STRENGTH, quality=(0, 95)), "quality must be at least 1"),
    (lambda: replace(STRENGTH, noise=(9, 3)), "noise must be two numbers, the smaller one first"),
    (lambda: replace(STRENGTH, round_sizes=(5, 7, 0)), r"round_sizes\[2\] must be at least 1"),
    (lambda: replace(STRENGTH, oblong_sizes=(9, 7, 1)), r"oblong_sizes\[1\] must be at least 9"),
    (lambda: replace(STRENGTH, narrower=0), "narrower must be a number above 0"),
    (lambda: replace(STRENGTH, plain=-0.1), "plain must be a number from 0 to 1"),
    (lambda: bicubic(np.zeros((8, 8, 3), np.uint8), 2.0), "factor must be an integer"),  # type: ignore[arg-type]
    (lambda: bicubic(np.zeros((8, 8, 3), np.uint8), 1), "must be 2 or more"),
]


@pytest.mark.parametrize(("make", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_number_out_of_its_range_is_named(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
