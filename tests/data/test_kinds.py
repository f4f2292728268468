"""Image files of every kind are read or refused by name; arrays of any number of channels; scenes on request."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.data import ArrayFolder, Scenes
from ldm.data.batch import check_sample
from ldm.data.images import read_image
from ldm.data.maps import read_mask
from ldm.data.sources.arrays import read_array
from ldm.data.sources.scenes import CLASSES
from ldm.data.transforms import UnreadableImage, view
from ldm.errors import MissingFile, UserError

GREY = np.linspace(0, 255, 600).astype(np.uint8).reshape(20, 30)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "I;16"])
def test_all_modes_become_grey_or_rgb(tmp_path: Path, mode: str, channels: int) -> None:
    image = Image.fromarray(GREY.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(GREY).convert("RGB").convert(mode)
    path = tmp_path / ("x.tif" if mode in ("CMYK", "YCbCr", "I;16") else "x.png")
    image.save(path)
    read = read_image(path, channels)
    assert read.mode == {1: "L", 3: "RGB"}[channels] and read.size == (30, 20)
    if mode not in ("1", "P"):
        assert abs(np.asarray(read.convert("L")).astype(int) - GREY).max() <= 2


def test_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    (tmp_path / "text.png").write_text("not an image")
    for name, channels, reason in (
        ("float.tif", 3, "32-bit pixels"),
        ("grey.png", 5, "cannot give 5 channels"),
        ("text.png", 3, "cannot be read"),
    ):
        with pytest.raises(UnreadableImage, match=reason):
            read_image(tmp_path / name, channels)


def test_strips_are_refused_and_long_pictures_are_not() -> None:
    assert view((300, 20), 32, 32, "center").width == 480
    with pytest.raises(UnreadableImage, match="3x200 pixels: more than 40 times"):
        view((3, 200), 8, 8, "center")


@pytest.mark.parametrize("suffix", ["first.npy", "last.npy", "one.npz", "named.npz", "pages.tif"])
def test_five_channels_from_any_file(tmp_path: Path, suffix: str) -> None:
    array = np.random.default_rng(0).integers(0, 65535, (5, 24, 36), dtype=np.uint16)
    path = tmp_path / suffix
    if suffix.endswith(".npy"):
        np.save(path, array if "first" in suffix else array.transpose(1, 2, 0))
    elif suffix.endswith(".npz"):
        np.savez(path, **({"image": array, "date": np.zeros(3)} if "named" in suffix else {"anything": array}))
    else:
        pages = [Image.fromarray(page) for page in array]
        pages[0].save(path, save_all=True, append_images=pages[1:])
    data = ArrayFolder(str(tmp_path), 24, 5)
    check_sample(data[0], "arrays")
    expected = torch.from_numpy(array[:, :, 6:30].astype(np.float32)) / 65535 * 2 - 1
    assert data[0]["image"].shape == (5, 24, 24) and torch.allclose(data[0]["image"], expected, atol=1e-4)
    assert data.original_size(0) == (36, 24)


def test_several_channels_in_one_tiff_page(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    array = np.random.default_rng(0).integers(0, 255, (24, 24, 5), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="minisblack", planarconfig="contig")
    assert torch.allclose(
        ArrayFolder(str(tmp_path), 24, 5)[0]["image"], torch.from_numpy(array).permute(2, 0, 1).float() / 127.5 - 1, atol=1e-5
    )


def test_arrays_that_do_not_fit_are_named(tmp_path: Path) -> None:
    def reason(array: np.ndarray, channels: int = 5, values: tuple[float, float] | None = None) -> str:
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(UnreadableImage) as caught:
            read_array(tmp_path / "x.npy", channels, values)
        return str(caught.value)

    floats = np.linspace(0, 3, 5 * 16).reshape(5, 4, 4).astype(np.float32)
    assert "values from 0 to 3, outside -1 to 1: set values" in reason(floats)
    assert "outside 0 to 1" in reason(floats, values=(0, 1))
    assert "nan" in reason(np.full((5, 4, 4), np.nan, np.float32))
    assert "shape (4, 8, 8), expected 5 channels first or last" in reason(np.zeros((4, 8, 8), np.uint8))
    assert "int64, whose range is not known: set values" in reason(np.arange(5 * 16).reshape(5, 4, 4))
    assert "complex" in reason(np.zeros((5, 4, 4), np.complex64))
    assert "cannot be read" in reason(np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "x.npz", a=floats, b=floats)
    with pytest.raises(UnreadableImage, match="the arrays a, b: expected one, or one named image"):
        read_array(tmp_path / "x.npz", 5)
    np.save(tmp_path / "x.npy", floats)
    scaled = read_array(tmp_path / "x.npy", 5, (0, 3))
    assert isinstance(scaled, np.ndarray) and scaled.shape == (4, 4, 5) and scaled.min() == -1 and scaled.max() == 1


def test_folders_of_arrays(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="folder of arrays"):
        ArrayFolder(str(tmp_path / "nowhere"), 8, 5)
    with pytest.raises(UserError, match="no array in it"):
        ArrayFolder(str(tmp_path), 8, 5)
    for i in range(8):
        np.save(tmp_path / f"{i}.npy", np.full((5, 20, 30), i, np.uint8))
    (tmp_path / "3.npy").write_bytes(b"broken")
    data = ArrayFolder(str(tmp_path), 16, 5, resize=24, crop="random", flip=0.5)
    assert "3.npy: cannot be read" in data[3]["skipped"][0] and data[3]["id"] == "4.npy"
    train, held = (ArrayFolder(str(tmp_path), 16, 5, split=s, held_out=0.3) for s in ("train", "validation"))
    assert len(train) + len(held) == 8 and len(held) >= 1


def test_tiffs_whose_values_are_said(tmp_path: Path) -> None:
    """Floats and 12 bits: what a photograph's range would make grey or refuse."""
    ramp = np.linspace(0, 1, 24 * 24, dtype=np.float32).reshape(24, 24)
    for name, stored, values in (("a", ramp, (0, 1)), ("b", (ramp * 4095).astype(np.uint16), (0, 4095))):
        (tmp_path / name).mkdir()
        Image.fromarray(stored).save(tmp_path / name / "x.tif")
        image = ArrayFolder(str(tmp_path / name), 24, 1, values=values)[0]["image"]
        assert np.allclose(image[0], ramp * 2 - 1, atol=1e-3)
    (tmp_path / "c").mkdir()
    Image.fromarray(np.full((24, 24, 3), 100, np.uint8)).save(tmp_path / "c" / "x.tif")
    assert np.allclose(ArrayFolder(str(tmp_path / "c"), 24, 3, values=(0, 200))[0]["image"], 0)


def test_masks_by_their_range(tmp_path: Path) -> None:
    for value, expected in ((65535, 1), (40000, 1), (0, 0)):
        Image.fromarray(np.full((4, 4), value, np.uint16)).save(tmp_path / "m.png")
        assert read_mask(tmp_path / "m.png", (4, 4)).tolist() == [[expected] * 4] * 4
    small, large = np.eye(4, dtype=np.uint8), np.eye(4, dtype=np.uint16)
    for pixels in (small, large * 20000, large * 255):  # would be no mask at all
        Image.fromarray(pixels).save(tmp_path / "m.png")
        with pytest.raises(UnreadableImage, match=r"mask m.png has values 0 to (1|20000|255), expected white"):
            read_mask(tmp_path / "m.png", (4, 4))
    clear = np.zeros((4, 4, 4), np.uint8)  # over white, all of it would be hole
    clear[0] = 255
    Image.fromarray(clear).save(tmp_path / "m.png")
    with pytest.raises(UnreadableImage, match="mask m.png has transparent pixels"):
        read_mask(tmp_path / "m.png", (4, 4))


def test_scenes_are_as_they_always_were() -> None:
    """Pixels and conditions of the demos' scenes: what was trained and measured on them stays comparable."""
    digest = hashlib.sha256()
    for data in (Scenes(20), Scenes(20, size=64, split="validation", seed=5, two_objects=1.0)):
        for i in range(20):
            sample = data[i]
            assert list(sample) == ["image", "caption", "label", "boxes", "box_labels", "segmentation", "id"]
            digest.update(sample["image"].numpy().tobytes() + sample["boxes"].numpy().tobytes() + sample["segmentation"].numpy().tobytes())
            digest.update(f"{sample['caption']} {sample['label']} {sample['box_labels'].tolist()} {sample['id']}".encode())
    assert digest.hexdigest() == "d86fec3e9fdfb7a69615fec964c1f162719fa517c5cc87a50d329cf43d22abfb"


def test_scenes_give_what_is_asked_for() -> None:
    everything = Scenes(12)
    for give, keys in (
        (["label"], {"label"}),
        (["boxes"], {"boxes", "box_labels"}),
        (["caption", "segmentation"], {"caption", "segmentation"}),
    ):
        chosen = Scenes(12, give=give)
        for i in range(12):
            assert set(chosen[i]) == {"image", "id", *keys}
            assert all(
                torch.equal(v, everything[i][k]) if isinstance(v, torch.Tensor) else v == everything[i][k] for k, v in chosen[i].items()
            )
    assert set(Scenes(2, give=[])[0]) == {"image", "id"}
    with pytest.raises(UserError, match="cannot give 'mask'"):
        Scenes(2, give=["mask"])  # type: ignore[list-item]


@pytest.mark.parametrize("size", [32, 96])
def test_conditions_of_scenes_are_what_is_drawn(size: int) -> None:
    """Where the label map says an object is, the picture has its colour; the drawn box is the smallest around it."""
    data = Scenes(30, size=size, map_classes="shape_colour", boxes="drawn", seed=3)
    shapes = Scenes(30, size=size, seed=3)
    for i in range(30):
        sample = data[i]
        check_sample(sample, "scenes")
        labels, names = sample["segmentation"], sample["caption"].split(" and ")
        assert set(labels.unique().tolist()) - {0} == {1 + label for label in sample["box_labels"].tolist()}
        assert sample["label"] == sample["box_labels"][0]
        assert torch.equal((labels + 5) // 6, shapes[i]["segmentation"])  # six colours to a shape
        for box, label, phrase in zip(sample["boxes"], sample["box_labels"].tolist(), names, strict=True):
            assert CLASSES[label] in phrase
            rows, columns = torch.nonzero(labels == 1 + label, as_tuple=True)
            if sample["box_labels"].tolist().count(label) == 1:
                edges = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / size
                assert torch.allclose(box, edges)
            inside = sample["image"][:, labels == 1 + label].mean(1)
            outside = sample["image"][:, labels == 0]
            assert (inside.max() - inside.min()) > 0.6 > (outside.amax(0) - outside.amin(0)).median()
