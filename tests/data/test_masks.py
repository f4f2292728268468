import pytest
import torch

from ldm.data.masks import mask

# Mean share of the picture as the docstring of `mask` has it, and the largest that is possible.
SHARES = {"thin": (0.28, 0.5), "medium": (0.24, 0.5), "thick": (0.26, 0.5), "mixed": (0.26, 0.5), "training": (0.35, 1.0)}


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def thickness(hole: torch.Tensor) -> float:
    """Area by the length of the outline, in pixels."""
    edges = (hole[:, 1:] != hole[:, :-1]).sum() + (hole[:, :, 1:] != hole[:, :, :-1]).sum()
    return float(hole.sum() / edges)


@pytest.mark.parametrize("kind", [*SHARES, "box", "half"])
@pytest.mark.parametrize("size", [(8, 8), (32, 32), (24, 100), (256, 256), (600, 400)])
def test_masks_are_binary_and_never_empty_nor_everything(kind, size: tuple[int, int]) -> None:
    for seed in range(5):
        hole = mask(kind, size, rng(seed))
        assert hole.shape == (1, *size) and hole.dtype == torch.float32
        assert set(hole.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("kind", SHARES)
def test_a_mask_is_a_function_of_the_generator_and_takes_one_draw(kind) -> None:
    a, b = rng(3), rng(3)
    first = mask(kind, (64, 64), a)
    assert torch.equal(first, mask(kind, (64, 64), b)) and not torch.equal(first, mask(kind, (64, 64), a))
    mask("thin", (64, 64), b)
    assert torch.equal(mask(kind, (64, 64), a), mask(kind, (64, 64), b))  # whatever was drawn between


@pytest.mark.parametrize("kind", SHARES)
def test_the_share_of_the_area_is_the_documented_one(kind) -> None:
    mean, most = SHARES[kind]
    shares = torch.stack([mask(kind, (256, 256), rng(seed)).mean() for seed in range(300)])
    assert float(shares.mean()) == pytest.approx(mean, abs=0.04)
    assert float(shares.min()) > 0 and float(shares.max()) <= most


def test_the_kinds_differ_in_thickness() -> None:
    def mean(kind) -> float:
        return sum(thickness(mask(kind, (256, 256), rng(seed))) for seed in range(100)) / 100

    thin, medium, thick = map(mean, ("thin", "medium", "thick"))
    assert thin < 0.6 * medium < 0.6 * thick


def test_masks_scale_with_the_picture() -> None:
    small, large = (sum(thickness(mask("thick", (n, n), rng(seed))) for seed in range(50)) / 50 for n in (64, 256))
    assert 2.5 < large / small < 5.5


def test_wrong_kinds_and_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="masks 'thik' are unknown: expected one of thin, medium"):
        mask("thik", (32, 32), rng(0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 8x8 pixels, got 7x300"):
        mask("thin", (7, 300), rng(0))
