import pytest
import torch
from torch.utils.data import Subset

from ldm.data import Inpainting, Mixed, Photographs, Scenes
from ldm.data.sources.photographs import CELL, held_out, photographs
from ldm.errors import MissingFile

pytest.importorskip("skimage")


def seen(patches: Photographs, count: int) -> dict[str, torch.Tensor]:
    """Which pixels of each photograph some patch shows."""
    maps = {name: torch.zeros(pixels.shape[:2], dtype=torch.bool) for name, pixels in photographs().items()}
    for i in range(count):
        k, top, left, _ = patches.place(i)
        maps[patches.names[k]][top : top + patches.size, left : left + patches.size] = True
    return maps


@pytest.mark.parametrize("size", [16, 32, 48])
def test_training_and_held_out_patches_share_no_pixel(size: int) -> None:
    train, rest = Photographs("train", size), Photographs("validation", size)
    shown, kept = seen(train, 2000), seen(rest, len(rest))
    assert all(kept[name].any() and shown[name].any() for name in shown)
    assert not any((shown[name] & kept[name]).any() for name in shown)
    assert len({rest.place(i) for i in range(len(rest))}) == len(rest)


def test_a_patch_is_what_its_place_says_and_the_same_every_time() -> None:
    train = Photographs("train", 32)
    mirrored = 0
    for i in range(40):
        k, top, left, flip = train.place(i)
        shown = torch.from_numpy(train.pixels[k][top : top + 32, left : left + 32].copy()).permute(2, 0, 1) / 127.5 - 1
        assert torch.allclose(train[i]["image"], shown.flip(2) if flip else shown)
        mirrored += flip
    assert 5 < mirrored < 35
    assert torch.equal(train[7]["image"], Photographs("train", 32)[7]["image"])
    assert Photographs("train", 32, seed=1).place(7) != train.place(7)
    with pytest.raises(ValueError, match="expected 1 to 64"):
        Photographs(size=CELL + 1)
    assert 0.2 < sum(held_out(r, c) for r in range(8) for c in range(8)) / 64 < 0.3


def test_without_scikit_image_one_line_says_so(monkeypatch) -> None:
    photographs.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "skimage", None)
    with pytest.raises(MissingFile, match="pip install scikit-image"):
        Photographs()


def test_mixed_takes_turns_and_passes_variation_on() -> None:
    short, long = Scenes(2, size=32, give=[]), Scenes(5, size=32, seed=3, give=[])
    mixed = Mixed([short, Inpainting(long)])
    assert len(mixed) == 10
    assert [mixed[i]["id"] for i in range(6)] == [x for k in range(3) for x in (short[k % 2]["id"], long[k]["id"])]
    a, b = mixed.varied(1, seed=0, place=0), mixed.varied(1, seed=0, place=64)
    assert a["id"] == b["id"] and not torch.equal(a["mask"], b["mask"])
    for wrong in ([], [short, Subset(short, [])]):
        with pytest.raises(ValueError, match="no empty one"):
            Mixed(wrong)
