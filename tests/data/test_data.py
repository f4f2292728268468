import json

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.data import Digits, ImageFolder, Scenes, StepBatches
from ldm.data.batch import check_sample, collate
from ldm.data.images import UnreadableImage, read_image, to_image, to_tensor
from ldm.data.transforms import view
from ldm.errors import MissingFile, UserError


@pytest.mark.parametrize("make", [lambda: Digits("train"), lambda: Digits("validation"), lambda: Scenes(8)])
def test_every_data_set_meets_the_schema(make) -> None:
    dataset = make()
    for i in range(8):
        check_sample(dataset[i], type(dataset).__name__)
    batch = collate([dataset[i] for i in range(4)])
    assert batch["image"].shape[0] == 4 and batch["label"].dtype == torch.int64 and len(batch["id"]) == 4


def test_digit_splits_do_not_meet() -> None:
    train, held = Digits("train"), Digits("validation")
    assert len(train) == 1437 and len(held) == 360 and not set(train.numbers) & set(held.numbers)


def test_scenes_are_functions_of_seed_split_and_number() -> None:
    a, b = Scenes(10), Scenes(10)
    assert torch.equal(b[7]["image"], a[7]["image"]) and a[7]["caption"] == b[7]["caption"] == a.caption(7)
    assert a[7]["caption"] != Scenes(10, split="validation")[7]["caption"] or not torch.equal(
        a[7]["image"], Scenes(10, split="validation")[7]["image"]
    )
    boxes = a[7]["boxes"]
    assert boxes.shape[1] == 4 and (boxes[:, 2] > boxes[:, 0]).all()


@pytest.mark.parametrize(
    "change,message",
    [
        ({"image": torch.zeros(3, 4, 4) + 2}, r"must be in \[-1, 1\]"),
        ({"image": torch.zeros(3, 4, 4, dtype=torch.float64)}, "float32"),
        ({"image": torch.zeros(4, 4)}, "float32"),
        ({"label": 1.5}, "class index"),
        ({"lable": 1}, "unknown key 'lable'"),
        ({"id": None}, "'id' must be str"),
        ({"low_res": torch.zeros(3, 3, 3)}, r"'low_res' is \(3, 3\), the image is \(4, 4\): expected an integer factor"),
        ({"low_res": torch.zeros(3, 1, 2)}, "the same for both sides"),
        ({"low_res": torch.zeros(3, 4, 4)}, "of at least 2"),
        ({"low_res": torch.zeros(3, 0, 0)}, "of at least 2"),
        ({"boxes": torch.zeros(2, 4), "box_labels": torch.zeros(1, dtype=torch.int64)}, "as many 'box_labels'"),
        ({"boxes": torch.zeros(2, 4)}, "as many 'box_labels'"),
        ({"boxes": torch.zeros(2, 5), "box_labels": torch.zeros(2, dtype=torch.int64)}, "xyxy"),
    ],
)
def test_samples_outside_the_schema_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_sample({"image": torch.zeros(3, 4, 4), "id": "x", **change}, "test")


def test_uneven_batches_are_named() -> None:
    with pytest.raises(ValueError, match="differs in size"):
        collate([{"image": torch.zeros(3, 4, 4), "id": "a"}, {"image": torch.zeros(3, 8, 8), "id": "b"}])


@pytest.mark.parametrize("world,accumulate", [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_data_order_does_not_depend_on_the_split(world: int, accumulate: int) -> None:
    whole = [sorted(i for i, _ in batch) for batch in StepBatches(20, 12, 5, seed=1)]
    ranks = [list(StepBatches(20, 12, 5, 1, rank=r, world=world, accumulate=accumulate)) for r in range(world)]
    for step in range(5):
        parts = [key for rank in ranks for micro in rank[step * accumulate : (step + 1) * accumulate] for key in micro]
        assert sorted(i for i, _ in parts) == whole[step]
        assert sorted(place for _, place in parts) == list(range(12 * step, 12 * step + 12))  # every draw has its own place


def test_data_order_continues_anywhere_and_epochs_are_complete() -> None:
    whole = list(StepBatches(10, 4, 10, seed=3))
    assert list(StepBatches(10, 4, 10, seed=3, start=6)) == whole[6:]
    flat = [i for batch in whole for i, _ in batch]
    assert sorted(flat[:10]) == sorted(flat[10:20]) == list(range(10)) and flat[:10] != flat[10:20]


def photographs(folder) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)
    (folder / "a").mkdir(parents=True)
    (folder / "b" / "deep").mkdir(parents=True)
    Image.fromarray(noise).save(folder / "a" / "rgb.png")
    Image.fromarray(noise[..., 0]).save(folder / "a" / "grey.jpg")
    Image.fromarray(np.dstack([noise, noise[..., 0]])).save(folder / "b" / "rgba.png")
    Image.fromarray(noise[..., 0].astype(np.uint16) * 257).save(folder / "b" / "deep" / "sixteen.png")
    Image.fromarray(noise).convert("CMYK").save(folder / "b" / "cmyk.jpg")
    Image.fromarray(noise).convert("P").save(folder / "b" / "palette.gif")


def test_a_folder_of_all_kinds_of_images(tmp_path) -> None:
    photographs(tmp_path)
    data = ImageFolder(str(tmp_path), 16, labels=True)
    assert data.names == sorted(data.names) and data.classes == {"a": 0, "b": 1} and len(data) == 6
    for i in range(6):
        check_sample(data[i], "folder")
        assert data[i]["image"].shape == (3, 16, 16) and data[i]["label"] == int(data[i]["id"].startswith("b"))
    grey = ImageFolder(str(tmp_path), 16, channels=1)
    assert grey[0]["image"].shape == (1, 16, 16)


def test_sixteen_bit_and_transparency_keep_their_meaning(tmp_path) -> None:
    Image.fromarray(np.full((20, 20), 65535, np.uint16)).save(tmp_path / "white.png")
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    for name in ("white.png", "clear.png"):
        assert float(to_tensor(read_image(tmp_path / name, 3)).min()) == 1.0


def test_exif_rotation_is_applied(tmp_path) -> None:
    image = Image.new("RGB", (30, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg", 3).size == (20, 30)


def test_tiny_images_are_refused_and_crops_move_with_the_step(tmp_path) -> None:
    with pytest.raises(UnreadableImage, match="enlarged"):
        view((7, 7), 32, 32, "center")
    photographs(tmp_path)
    data = ImageFolder(str(tmp_path), 16, resize=32, crop="random", flip=0.5)
    assert torch.equal(data.varied(0, 1, 5)["image"], data.varied(0, 1, 5)["image"])
    assert not torch.equal(data.varied(0, 1, 5)["image"], data.varied(0, 1, 6)["image"])


def test_broken_files_are_replaced_and_counted(tmp_path) -> None:
    photographs(tmp_path)
    (tmp_path / "a" / "broken.png").write_bytes((tmp_path / "a" / "rgb.png").read_bytes()[:200])
    data = ImageFolder(str(tmp_path), 16)
    sample = data[data.names.index("a/broken.png")]
    assert sample["id"] != "a/broken.png" and "broken.png" in sample["skipped"][0]
    assert "broken.png" in collate([sample, data[5]])["skipped"][0]


def test_captions_from_sidecars_and_metadata(tmp_path) -> None:
    photographs(tmp_path)
    lines = [
        {"file_name": f"{p}", "caption": f"about {p}"} for p in ("a/grey.jpg", "b/rgba.png", "b/cmyk.jpg", "b/palette.gif", "a/rgb.png")
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = ImageFolder(str(tmp_path), 16, captions=True)
    assert len(data) == 5 and "sixteen.png: no caption" in data.broken[0]
    (tmp_path / "b" / "deep" / "sixteen.txt").write_text("deep one\n")
    (tmp_path / "a" / "rgb.txt").write_text("the sidecar wins")
    data = ImageFolder(str(tmp_path), 16, captions=True)
    assert data.captions["b/deep/sixteen.png"] == ("deep one",) and data.captions["a/rgb.png"] == ("the sidecar wins",) and not data.broken
    (tmp_path / "a" / "rgb.txt").write_bytes("caf\u00e9".encode("latin-1"))  # the metadata's caption is not what was meant
    (tmp_path / "b" / "deep" / "sixteen.txt").write_text("")
    extra = ["{broken", '{"file_name": "a/grey.jpg", "caption": 3}', '{"file_name": "a/grey.jpg", "caption": "again"}']
    (tmp_path / "metadata.jsonl").write_text("\n".join([*map(json.dumps, lines), *extra]))
    data = ImageFolder(str(tmp_path), 16, captions=True)
    assert data.captions["b/deep/sixteen.png"] == ("",) and data.captions["a/grey.jpg"] == ("about a/grey.jpg",) and len(data) == 5
    for found, reason in zip(data.broken, ("metadata.jsonl:6: not JSON", "jsonl:7: caption", "rgb.txt: not UTF-8"), strict=True):
        assert reason in found
    (tmp_path / "metadata.jsonl").unlink()
    for name in ("a/rgb.txt", "b/deep/sixteen.txt"):
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match="none of its 6 entries can be used; the first: .*no caption"):
        ImageFolder(str(tmp_path), 16, captions=True)


def test_missing_and_empty_folders(tmp_path) -> None:
    with pytest.raises(MissingFile, match="no such folder"):
        ImageFolder(str(tmp_path / "nowhere"), 16)
    with pytest.raises(UserError, match="no image in it"):
        ImageFolder(str(tmp_path), 16)


def test_splits_of_a_folder_share_nothing(tmp_path) -> None:
    for i in range(60):
        Image.new("L", (20, 20), i).save(tmp_path / f"{i}.png")
    train, held = (ImageFolder(str(tmp_path), 16, split=s, held_out=0.3).names for s in ("train", "validation"))
    assert len(train) + len(held) == 60 and not set(train) & set(held) and 8 <= len(held) <= 28


def test_pixels_survive_the_round_trip() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).numpy()[0]
    assert np.array_equal(np.asarray(to_image(to_tensor(Image.fromarray(pixels)))), pixels)
