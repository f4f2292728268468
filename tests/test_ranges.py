"""Numbers of tiles, masks and degradations are compared with their ranges where they are taken."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ldm.data.degrade import bicubic
from ldm.data.masks import mask
from ldm.diffusion import Tiles

WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Tiles(0, 0), "size of tiles must be at least 1"),
    (lambda: Tiles(8.0, 4), "size of tiles must be an integer"),  # type: ignore[arg-type]
    (lambda: Tiles(8, -2), "overlap must be at least 0"),
    (lambda: Tiles(8, 4, multiple=0), "multiple must be at least 1"),
    (lambda: Tiles(8, 4, 0), "tiles at a time must be at least 1"),
    (lambda: Tiles(8, 8), "must be smaller than the tile"),
    (lambda: mask("thick", (16.0, 16), torch.Generator()), "height must be an integer"),  # type: ignore[arg-type]
    (lambda: bicubic(np.zeros((8, 8, 3), np.uint8), 2.0), "factor must be an integer"),  # type: ignore[arg-type]
    (lambda: bicubic(np.zeros((8, 8, 3), np.uint8), 1), "must be 2 or more"),
]


@pytest.mark.parametrize(("make", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_number_out_of_its_range_is_named(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
