"""Crops that are not square: images, boxes, label maps, masks and pairs are cut alike; the size in training is found everywhere."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.checkpoint.source import trained_size
from ldm.data import AnnotatedFolder, ArrayFolder, ImageFolder, Inpainting, PairedFolders, PairedResolutions, SuperResolution
from ldm.data.images import to_image
from ldm.data.transforms import UnreadableImage, View, pair, view, zoomed
from ldm.errors import UserError


def smooth(height: int, width: int) -> np.ndarray:
    """An image whose red grows to the right and whose green grows downwards."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / width, 255 * y / height, np.zeros_like(x)], 2).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, size in (("wide", (60, 120)), ("high", (120, 60)), ("fits", (64, 96))):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "maps").mkdir(exist_ok=True)
        pixels = smooth(*size)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray((pixels[..., 0] // 64).astype(np.uint8)).save(tmp_path / "maps" / f"{name}.png")
    return tmp_path


def square_view(picture: tuple[int, int], resize: int, size: int, crop: str, random: tuple[float, float]) -> tuple[int, ...]:
    """Scaled size and position of a square crop, as it has been since the first version."""
    width, height = (max(size, round(side * resize / min(picture))) for side in picture)
    if crop == "center":
        return width, height, (width - size) // 2, (height - size) // 2
    return width, height, round(random[0] * (width - size)), round(random[1] * (height - size))


def test_squares_are_cut_as_before() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        picture = tuple(int(side) for side in rng.integers(30, 900, 2))
        size = int(rng.integers(8, 40))
        resize, random = size + int(rng.integers(0, 30)), (float(rng.random()), float(rng.random()))
        for crop in ("center", "random"):
            got = view(picture, resize, size, crop, random)  # type: ignore[arg-type]
            assert (got.width, got.height, got.left, got.top) == square_view(picture, resize, size, crop, random)  # type: ignore[arg-type]
            assert got == view(picture, resize, (size, size), crop, random)  # type: ignore[arg-type]
        if min(picture) * 0.7 * 4 >= size:
            side = int(min(picture) * 0.7)
            assert zoomed(picture, size, 0.7, random).region == (side, side)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("picture", "resize", "scaled"),
    [
        ((96, 64), 32, (48, 32)),  # the aspect ratio of the crop: nothing is cut off
        ((200, 64), 32, (100, 32)),  # too wide: its height decides
        ((96, 200), 32, (48, 100)),  # too high: its width decides
        ((96, 64), 40, (60, 40)),  # and a margin for a random crop
    ],
)
def test_an_image_is_scaled_until_the_crop_fits(picture: tuple[int, int], resize: int, scaled: tuple[int, int]) -> None:
    got = view(picture, resize, (32, 48), "center")
    assert (got.width, got.height) == scaled
    assert (got.left, got.top) == ((scaled[0] - 48) // 2, (scaled[1] - 32) // 2)
    assert got.picture(Image.new("RGB", picture)).size == (48, 32)


def test_too_small_for_the_crop() -> None:
    with pytest.raises(UnreadableImage, match="enlarged more than 4 times to 64"):
        view((60, 15), 64, (64, 256), "center")
    with pytest.raises(UnreadableImage, match="a crop of 12x8"):
        zoomed((24, 16), (64, 96), 0.5, (0, 0))


@pytest.mark.parametrize("mirrored", [False, True])
def test_boxes_and_maps_follow_the_image(mirrored: bool) -> None:
    pixels = np.zeros((60, 120, 3), np.uint8)
    pixels[15:45, 30:60] = 255
    cut = view((120, 60), 40, (32, 48), "random", (0.25, 0.5), mirrored)
    image = np.asarray(cut.picture(Image.fromarray(pixels)))[..., 0] > 127
    boxes, _ = cut.boxes(np.array([[30 / 120, 15 / 60, 60 / 120, 45 / 60]]))
    labels = cut.labels(pixels[..., 0] > 0).numpy() > 0
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    seen = np.array([columns[0] / 48, rows[0] / 32, (columns[-1] + 1) / 48, (rows[-1] + 1) / 32])
    assert labels.shape == (32, 48)
    assert np.abs(boxes[0].numpy() - seen).max() < 1 / 32
    assert (labels != image).mean() < 0.05


def test_zoom_keeps_the_aspect_ratio() -> None:
    cut = zoomed((300, 100), (32, 48), 0.5, (0.5, 0.5))
    assert cut == View(300, 100, 112, 25, (32, 48), False, (50, 75))
    assert cut.picture(Image.fromarray(smooth(100, 300))).size == (48, 32)
    assert zoomed((30, 20), (32, 48), 1.0, (0, 0)).picture(Image.new("L", (30, 20))).size == (48, 32)


@pytest.mark.parametrize("crop", ["center", "random"])
def test_folders(folder: Path, crop: str) -> None:
    more = {"size": [32, 48], "resize": 36, "crop": crop, "flip": 0.5}
    data = ImageFolder(str(folder / "images"), **more)
    paired = PairedFolders(str(folder / "images"), str(folder / "maps"), **more)
    for i in range(3):
        for place in range(4):
            assert data.varied(i, 0, place)["image"].shape == (3, 32, 48)
            sample = paired.varied(i, 0, place)
            assert sample["image"].shape == (3, 32, 48) and sample["segmentation"].shape == (32, 48)
            seen = ((sample["image"][0] + 1) * 127.5 // 64).long()
            assert (seen != sample["segmentation"]).float().mean() < 0.1
    filled = Inpainting(data)[0]
    assert filled["mask"].shape == (1, 32, 48) and filled["masked_image"].shape == (3, 32, 48)
    assert SuperResolution(data, 4)[0]["low_res"].shape == (3, 8, 12)
    assert ImageFolder(str(folder / "images"), [32, 48], zoom=0.5)[0]["image"].shape == (3, 32, 48)


def test_arrays_and_annotations(folder: Path) -> None:
    np.save(folder / "five.npy", np.random.default_rng(0).random((5, 60, 120), dtype=np.float32))
    assert ArrayFolder(str(folder), [16, 24], 5)[0]["image"].shape == (5, 16, 24)
    line = '{"file_name": "images/wide.png", "boxes": [{"label": 1, "box": [0.5, 0, 1, 1]}], "segmentation": "maps/wide.png"}'
    (folder / "metadata.jsonl").write_text(line + "\n", encoding="utf-8")
    sample = AnnotatedFolder(str(folder), [32, 48], ["boxes", "segmentation"])[0]
    assert sample["segmentation"].shape == (32, 48)
    assert torch.allclose(sample["boxes"], torch.tensor([[0.5, 0.0, 1.0, 1.0]]))


def test_pairs_of_resolutions(tmp_path: Path) -> None:
    for kind, size in (("high", (80, 120)), ("low", (20, 30))):
        (tmp_path / kind).mkdir()
        Image.fromarray(smooth(*size)).save(tmp_path / kind / "a.png")
    sample = PairedResolutions(str(tmp_path / "high"), str(tmp_path / "low"), [64, 96], flip=0.5).varied(0, 0, 3)
    assert sample["image"].shape == (3, 64, 96) and sample["low_res"].shape == (3, 16, 24)
    reduced = torch.nn.functional.avg_pool2d(sample["image"], 4)
    assert (reduced - sample["low_res"]).abs().max() < 0.1
    with pytest.raises(ValueError, match="smaller than 128x64"):
        PairedResolutions(str(tmp_path / "high"), str(tmp_path / "low"), [64, 128]).read(0, 0, 0)


@pytest.mark.parametrize("size", [[32], [32, 48, 3], [0, 32], "32", 0, 32.0, True])
def test_a_wrong_size(folder: Path, size: object) -> None:
    with pytest.raises(ValueError, match="size"):
        ImageFolder(str(folder / "images"), size)  # type: ignore[arg-type]


def test_resize_is_compared_with_the_shorter_side(folder: Path) -> None:
    with pytest.raises(UserError, match="resize 31 is smaller than size 32"):
        ImageFolder(str(folder / "images"), [48, 32], resize=31)


def test_size_in_training() -> None:
    def config(size: object) -> dict[str, object]:
        return {"data": {"params": {"train": {"params": {"images": {"params": {"size": size}}}}}}}

    assert trained_size(config(64)) == (64, 64)
    assert trained_size(config([256, 384])) == (256, 384)
    assert trained_size(config("64")) is None and trained_size(config([1, 2, 3])) is None
    assert pair(5) == (5, 5) and pair((3, 4)) == (3, 4)


def test_transparency_is_the_fourth_channel(tmp_path: Path) -> None:
    pixels = np.dstack([smooth(40, 60), np.zeros((40, 60), np.uint8)])
    pixels[:, :30, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[..., :3]).save(tmp_path / "b.png")
    clear, opaque = (ImageFolder(str(tmp_path), [40, 60], channels=4)[i]["image"] for i in range(2))
    assert clear.shape == (4, 40, 60) and (clear[3, :, :30] == 1).all() and (clear[3, :, 30:] == -1).all()
    assert (opaque[3] == 1).all() and torch.equal(clear[:3, :, :30], opaque[:3, :, :30])
    white = ImageFolder(str(tmp_path), [40, 60])[0]["image"]
    assert white.shape == (3, 40, 60) and (white[:, :, 30:] == 1).all()
    shown = to_image(clear)
    assert shown.mode == "RGBA" and np.array_equal(np.asarray(shown), pixels)


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    values = np.arange(1024, dtype=np.uint16).reshape(32, 32) + 30000  # eight levels of 8 bit
    Image.fromarray(values).save(tmp_path / "deep.png")
    Image.fromarray((values // 257).astype(np.uint8)).save(tmp_path / "grey.png")
    data = ImageFolder(str(tmp_path), 32, channels=1, depth=16)
    image = data[0]["image"]
    assert torch.allclose(image[0], torch.from_numpy(values.astype(np.float32) / 32767.5 - 1), atol=1e-6)
    assert len(image.unique()) == 1024 and data[1]["image"].shape == (1, 32, 32)
    assert len(ImageFolder(str(tmp_path), 32, channels=1)[0]["image"].unique()) <= 8
    zoomed_in = ImageFolder(str(tmp_path), 16, channels=1, depth=16, zoom=1.0)[0]["image"]
    assert torch.allclose(zoomed_in, torch.nn.functional.avg_pool2d(image, 2), atol=1e-5)
    with pytest.raises(UserError, match="depth: 16 goes with channels: 1"):
        ImageFolder(str(tmp_path), 32, depth=16)
