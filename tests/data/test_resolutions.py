"""Pairs of resolutions, masks of a folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.data import Inpainting, PairedFolders, PairedResolutions
from ldm.errors import UserError


def pairs(root: Path, side: int = 64, factor: int = 4, count: int = 6) -> None:
    rng = np.random.default_rng(0)
    for kind in ("high", "low"):
        (root / kind).mkdir()
    for i in range(count):
        low = rng.integers(0, 256, (side // factor, side // factor, 3), dtype=np.uint8)
        Image.fromarray(low).save(root / "low" / f"{i}.png")
        Image.fromarray(low.repeat(factor, 0).repeat(factor, 1)).save(root / "high" / f"{i}.png")


@pytest.mark.parametrize("size", [32, 64])
def test_both_are_cut_at_the_same_place(size: int, tmp_path: Path) -> None:
    pairs(tmp_path)
    data = PairedResolutions(str(tmp_path / "high"), str(tmp_path / "low"), size, flip=0.5, split="train", held_out=0.2)
    for place in range(20):
        sample = data.varied(place % len(data), 0, place)
        assert sample["image"].shape == (3, size, size) and sample["low_res"].shape == (3, size // 4, size // 4)
        assert torch.equal(sample["image"][:, ::4, ::4], sample["low_res"])


def test_pairs_of_16_bit_are_not_rounded(tmp_path: Path) -> None:
    low = np.random.default_rng(0).integers(0, 2**16, (16, 16), dtype=np.uint16)
    for kind, values in (("low", low), ("high", low.repeat(4, 0).repeat(4, 1))):
        (tmp_path / kind).mkdir()
        Image.fromarray(values).save(tmp_path / kind / "a.png")
    sample = PairedResolutions(str(tmp_path / "high"), str(tmp_path / "low"), 64, channels=1, depth=16)[0]
    assert torch.allclose(sample["low_res"][0], torch.from_numpy(low.astype(np.float32)) / 32767.5 - 1, atol=1e-6)
    assert torch.equal(sample["image"][:, ::4, ::4], sample["low_res"])


def test_pairs_that_do_not_fit_are_skipped_and_counted(tmp_path: Path) -> None:
    pairs(tmp_path)
    Image.new("RGB", (13, 16)).save(tmp_path / "low" / "0.png")
    (tmp_path / "low" / "1.png").unlink()
    data = PairedResolutions(str(tmp_path / "high"), str(tmp_path / "low"), 32)
    assert len(data) == 5 and "no low-resolution version" in data.broken[0]
    assert "expected an integer factor" in data[0]["skipped"][0]


def test_no_pair_is_one_message(tmp_path: Path) -> None:
    pairs(tmp_path, count=1)
    (tmp_path / "low" / "0.png").unlink()
    with pytest.raises(UserError, match="no low-resolution version"):
        PairedResolutions(str(tmp_path / "high"), str(tmp_path / "low"), 32)


def test_masks_of_a_folder(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    Image.new("RGB", (32, 32), "red").save(tmp_path / "images" / "a.jpg")
    mask = np.zeros((32, 32), np.uint8)
    mask[:8] = 255
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    images = PairedFolders(str(tmp_path / "images"), str(tmp_path / "masks"), 32, give="mask")
    sample = Inpainting(images, masks="given")[0]
    assert sample["mask"].sum() == 8 * 32 and (sample["masked_image"][:, :8] == -1).all()
    assert torch.equal(sample["masked_image"][:, 8:], sample["image"][:, 8:])
