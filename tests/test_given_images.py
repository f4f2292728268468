"""Images and masks that users give to scripts: pairs, generated masks, batches of one size, colours, memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from ldm.cli import run_script
from ldm.cli.masked_images import generated_masks, masks_of_folder, with_mask
from ldm.cli.pictures import colours, read_picture, write_png
from ldm.cli.restoring import batches, padded_size
from ldm.data.masks import mask
from ldm.errors import MissingFile, UserError
from ldm.rng import generator


def test_batches_hold_one_size_and_leave_nothing_out() -> None:
    sizes = [(8, 8), (8, 8), (8, 16), (8, 8)]
    planned = batches(sizes, 3, lambda size: 4)
    assert [result for some in planned for result in some] == [(place, i) for place in range(4) for i in range(3)]
    assert [len(some) for some in planned] == [4, 2, 3, 3]
    assert all(len({sizes[place] for place, _ in some}) == 1 for some in planned)
    assert padded_size(Image.new("RGB", (9, 16)), 8) == (16, 16)


def test_a_generated_mask_follows_from_the_seed_and_the_name(tmp_path: Path) -> None:
    for name in ("a.png", "a_mask.png", "b.jpg"):
        Image.new("RGB", (64, 48), "grey").save(tmp_path / name)
    pairs = [read() for read in generated_masks(tmp_path, 3, "thick", seed=5)]
    assert [pair.name for pair in pairs] == ["a", "b"]  # what is a mask already gets none
    assert np.array_equal(pairs[1].mask, mask("thick", (48, 64), generator(5, "mask", "b.jpg"))[0].numpy() > 0)
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).unlink()
    with pytest.raises(MissingFile, match="nothing but masks"):
        generated_masks(tmp_path, 3, "thick", 0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_masks_of_all_kinds(tmp_path: Path, mode: str) -> None:
    hole = np.zeros((12, 10), dtype=bool)
    hole[3:7, 2:9] = True
    white = Image.fromarray(hole * np.uint16(65535)) if mode == "I;16" else Image.fromarray(hole * np.uint8(255)).convert(mode)
    white.save(tmp_path / "x_mask.png")
    Image.new("RGB", (10, 12)).save(tmp_path / "x.png")
    (read,) = masks_of_folder(tmp_path, 3)
    assert np.array_equal(read().mask, hole)


def test_masks_that_say_nothing_clear(tmp_path: Path) -> None:
    picture, path = tmp_path / "x.png", tmp_path / "x_mask.png"
    Image.new("RGB", (10, 12)).save(picture)
    Image.new("RGBA", (10, 12), (255, 255, 255, 0)).save(path)
    with pytest.raises(UserError, match="x_mask.png: has transparent pixels"):
        with_mask(picture, path, 3)
    Image.new("L", (10, 12), 1).save(path)  # a map of 0 and 1
    with pytest.raises(UserError, match="its brightest pixel is 1 of 255"):
        with_mask(picture, path, 3)
    Image.new("RGB", (10, 12)).save(tmp_path / "x.jpg")
    with pytest.raises(UserError, match=r"x\.jpg and x\.png share a name"):
        masks_of_folder(tmp_path, 3)


def test_colour_profiles_go_with_the_pixels(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png", icc_profile=profile)
    given = read_picture(tmp_path / "a.png")
    write_png(tmp_path / "out.png", torch.zeros(3, 4, 4), {"seed": 1}, like=given)
    out = Image.open(tmp_path / "out.png")
    assert out.info["icc_profile"] == profile and "seed" in out.text["ldm"]
    assert colours(given.convert("L")) is None and colours(Image.new("RGB", (1, 1))) is None and colours(None) is None


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried"), RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()],
)
def test_too_little_memory_is_one_line(capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    def main(arguments: list[str] | None) -> int:
        raise error

    assert run_script(main, []) == 2
    assert capsys.readouterr().err == "error: out of memory: lower --batch, or where there is --window, sample in tiles\n"
