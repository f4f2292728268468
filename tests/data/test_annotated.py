"""Boxes, label maps and masks move with their image; `metadata.jsonl` in a folder, right and wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniatures import HEIGHT, WIDTH, landscapes, picture, quadrants
from PIL import Image

from ldm.data import AnnotatedFolder, ImageFolder, PairedFolders
from ldm.data.batch import check_sample, collate
from ldm.data.maps import read_map, read_mask
from ldm.data.transforms import UnreadableImage, view
from ldm.errors import MissingFile, UserError

EVERYTHING = ["label", "caption", "boxes", "segmentation", "mask"]


def line(name: str = "a.png", **change: Any) -> dict[str, Any]:
    good = {"file_name": name, "caption": "a picture", "label": 2, "segmentation": "map.png", "mask": "mask.png"}
    return {**good, "boxes": [{"label": 1, "box": [0.0, 0.0, 0.5, 0.5]}], **change}


def folder(root: Path, lines: list[Any]) -> str:
    for name in ("a.png", "b.png"):
        picture(root / name)
    quadrants(root / "map.png")
    quadrants(root / "mask.png", classes=(255, 0, 0, 0))
    quadrants(root / "small.png", (20, 20))
    (root / "metadata.jsonl").write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in lines) + "\n")
    return str(root)


def test_a_folder_gives_what_is_asked_for(tmp_path: Path) -> None:
    data = AnnotatedFolder(folder(tmp_path, [line(), line("b.png", boxes=[])]), 16, EVERYTHING)
    for sample in (data[0], data[1]):
        check_sample(sample, "folder")
    assert data[0]["label"] == 2 and data[0]["caption"] == "a picture" and data[1]["boxes"].shape == (0, 4)
    batch = collate([data[0], data[1]])
    assert batch["segmentation"].shape == (2, 16, 16) and batch["mask"].shape == (2, 1, 16, 16) and batch["id"] == ["a.png", "b.png"]
    assert set(AnnotatedFolder(str(tmp_path), 16, ["label"])[0]) == {"image", "id", "label"}


def test_everything_moves_with_the_crop_and_the_flip(tmp_path: Path) -> None:
    """The picture is its label map; so wherever the crop lies, the map, the mask and the box must say what is seen."""
    corner = np.zeros((HEIGHT, WIDTH), np.uint8)
    corner[5:20, 10:40] = 1
    Image.fromarray(corner * 255).save(tmp_path / "a.png")
    Image.fromarray(corner).save(tmp_path / "map.png")
    box = [10 / WIDTH, 5 / HEIGHT, 40 / WIDTH, 20 / HEIGHT]
    row = {"file_name": "a.png", "segmentation": "map.png", "mask": "a.png", "boxes": [{"label": 7, "box": box}]}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    data = AnnotatedFolder(str(tmp_path), 32, ["boxes", "segmentation", "mask"], resize=80, crop="random", flip=0.5, channels=1)
    seen = set()
    for place in range(40):
        sample = data.varied(0, 3, place)
        bright = sample["image"][0] > 0
        assert (bright != (sample["segmentation"] == 1)).float().mean() < 0.05  # bicubic edges
        assert torch.equal(sample["mask"][0], sample["segmentation"].float())
        if not len(sample["boxes"]):
            assert not sample["mask"].any()
            continue
        x0, y0, x1, y1 = (sample["boxes"][0] * 32).round().int().tolist()
        drawn = torch.zeros(32, 32, dtype=torch.bool)
        drawn[y0:y1, x0:x1] = True
        assert (drawn != (sample["segmentation"] == 1)).float().mean() < 0.07 and sample["box_labels"].tolist() == [7]
        seen.add((x0, y0, x1, y1))
    assert len(seen) > 10


def test_the_picture_is_that_of_an_image_folder(tmp_path: Path) -> None:
    data = AnnotatedFolder(folder(tmp_path, [line(), line("b.png")]), 16, [], resize=24, crop="random", flip=0.5)
    plain = ImageFolder(str(tmp_path), 16, resize=24, crop="random", flip=0.5)
    for place in range(6):
        assert torch.equal(data.varied(0, 1, place)["image"], plain.varied(plain.names.index("a.png"), 1, place)["image"])


def test_boxes_are_clipped_and_dropped_by_what_is_left() -> None:
    square = view((60, 40), 40, 40, "center")  # shows x from 10 to 50
    boxes = np.array([[0, 0, 10, 40], [0, 0, 20, 40], [5, 0, 45, 40], [20, 10, 30, 20]]) / [60, 40, 60, 40]
    inside, stays = square.boxes(boxes)
    assert stays.tolist() == [1, 2, 3]
    assert torch.allclose(inside, torch.tensor([[0, 0, 0.25, 1], [0, 0, 0.875, 1], [0.25, 0.25, 0.5, 0.5]]), atol=1e-6)
    assert square.boxes(boxes, 0.6)[1].tolist() == [2, 3]
    mirrored, _ = view((60, 40), 40, 40, "center", mirrored=True).boxes(boxes)
    assert torch.allclose(mirrored[2], torch.tensor([0.5, 0.25, 0.75, 0.5]), atol=1e-6)


@pytest.mark.parametrize(
    "bad,reason",
    [
        ("{broken", "not JSON"),
        ("[1]", "expected an object"),
        ({"file_name": "a.png"}, "has no 'label'"),
        (line("gone.png"), "file_name: no such file: gone.png"),
        (line(segmentation="gone.png"), "segmentation: no such file"),
        (line(label=5), "label: expected 0 to 4, got 5"),
        (line(label=-1), "label: expected 0 to 4, got -1"),
        (line(caption="\ud800"), "caption: .*is not UTF-8 text"),
        (line(boxes=[{"label": 0, "box": [0, 0, 1, 10**400]}]), r"boxes\[0\].*leaves the image"),
        (line(label="dog"), "label: expected 0 to 4, got 'dog'"),
        (line(caption=3), "caption: expected a string"),
        (line(boxes=[{"label": 0, "box": [0, 0, 1.2, 1]}]), r"boxes\[0\].*leaves the image"),
        (line(boxes=[{"label": 0, "box": [0, 0.9, 1, 0.1]}]), r"boxes\[0\].*upside down"),
        (line(boxes=[{"label": 9, "box": [0, 0, 1, 1]}]), r"boxes\[0\].label: expected 0 to 8, got 9"),
        (line(boxes=[{"label": 0, "box": [0, 0, 1]}]), r"boxes\[0\]: expected"),
        (line(boxes=[{"label": 0, "box": [0, 0, 1, float("nan")]}]), r"boxes\[0\]: expected"),
        (line(boxes={}), "boxes: expected a list"),
    ],
)
def test_bad_lines_are_left_out_and_named(tmp_path: Path, bad: Any, reason: str) -> None:
    classes = {"label": 5, "boxes": 9}
    data = AnnotatedFolder(folder(tmp_path, [line(), bad, line("b.png")]), 16, EVERYTHING, classes=classes)
    assert len(data) == 2 and len(data.broken) == 1
    with pytest.raises(UserError, match=f"none of its 1 entries.*metadata.jsonl:1: .*{reason}"):
        AnnotatedFolder(folder(tmp_path, [bad]), 16, EVERYTHING, classes=classes)
    assert f"{tmp_path}/metadata.jsonl:2: " in data.broken[0]


@pytest.mark.parametrize(
    "bad,reason",
    [
        (line("b.png", segmentation="small.png"), "label map small.png is 20x20, its picture 60x40"),
        (line("b.png", segmentation="a.png"), "RGB image, expected class indices"),
        (line("b.png", segmentation="high.png"), "class 200, expected 0 to 9"),
        (line("b.png", mask="small.png"), "mask small.png is 20x20"),
    ],
)
def test_bad_maps_count_when_their_image_is_read(tmp_path: Path, bad: Any, reason: str) -> None:
    root = folder(tmp_path, [bad, line()])
    quadrants(tmp_path / "high.png", classes=(200, 0, 0, 0))
    sample = AnnotatedFolder(root, 16, EVERYTHING, classes={"segmentation": 10})[0]
    assert sample["id"] == "a.png" and "metadata.jsonl:1: " in sample["skipped"][0] and reason in sample["skipped"][0]
    with pytest.raises(UserError, match="none of its 1 images can be read"):
        AnnotatedFolder(folder(tmp_path, [bad]), 16, EVERYTHING, classes={"segmentation": 10})[0]


def test_numbers_that_no_tensor_takes_are_no_classes(tmp_path: Path) -> None:
    bad = [line(label=10**30), line(boxes=[{"label": 10**30, "box": [0, 0, 1, 1]}])]
    data = AnnotatedFolder(folder(tmp_path, [*bad, line()]), 16, EVERYTHING)
    assert len(data) == 1 and all("label: expected a class index" in reason for reason in data.broken) and len(data.broken) == 2


def test_a_file_named_twice_gets_two_ids(tmp_path: Path) -> None:
    data = AnnotatedFolder(folder(tmp_path, [line(), line(caption="another")]), 16)
    assert [data[i]["id"] for i in range(2)] == ["a.png", "a.png#2"] and data[1]["caption"] == "another"


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="annotated folder"):
        AnnotatedFolder(str(tmp_path / "nowhere"), 16)
    with pytest.raises(MissingFile, match="metadata.jsonl"):
        AnnotatedFolder(str(tmp_path), 16)
    folder(tmp_path, [line()])
    with pytest.raises(UserError, match="cannot give 'lable'"):
        AnnotatedFolder(str(tmp_path), 16, ["lable"])  # type: ignore[list-item]
    with pytest.raises(UserError, match="classes: unknown key 'box'"):
        AnnotatedFolder(str(tmp_path), 16, classes={"box": 3})
    with pytest.raises(UserError, match="resize 8 is smaller than size 16"):
        AnnotatedFolder(str(tmp_path), 16, resize=8)


def test_label_maps_of_all_kinds(tmp_path: Path) -> None:
    values = np.arange(12).reshape(3, 4)
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "eight.png")
    Image.fromarray((values * 300).astype(np.uint16)).save(tmp_path / "sixteen.png")
    palette = Image.fromarray(values.astype(np.uint8), mode="P")
    palette.putpalette([90, 20, 30] * 12)  # all classes in one colour: only the indices tell them apart
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(read_map(tmp_path / "eight.png", (4, 3)), values)
    assert np.array_equal(read_map(tmp_path / "palette.png", (4, 3), 12), values)
    assert np.array_equal(read_map(tmp_path / "sixteen.png", (4, 3)), values * 300)
    (tmp_path / "broken.png").write_bytes((tmp_path / "eight.png").read_bytes()[:40])
    for read in (read_map, read_mask):
        with pytest.raises(UnreadableImage, match="broken.png cannot be read"):
            read(tmp_path / "broken.png", (4, 3))


def test_landscapes_with_maps_in_a_second_folder(tmp_path: Path) -> None:
    landscapes(tmp_path)
    paths = {"root": str(tmp_path / "images"), "maps": str(tmp_path / "maps")}
    data = PairedFolders(**paths, size=64, resize=96, crop="random", classes=182)
    assert len(data) == 5 and "lake/0.jpg: no label map lake/0.png" in data.broken[0]
    check_sample(data[0], "landscapes")
    assert set(data[0]["segmentation"].unique().tolist()) == {0, 105, 181, 255}
    train, held = (PairedFolders(**paths, size=64, split=s, held_out=0.3).records for s in ("train", "validation"))
    assert len(train) + len(held) == 5 and held
    with pytest.raises(UserError, match="none of its 5 images can be read.*class 181, expected 0 to 99"):
        PairedFolders(**paths, size=64, classes=100)[0]
    with pytest.raises(MissingFile, match="folder of label maps"):
        PairedFolders(paths["root"], str(tmp_path / "nowhere"), 64)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="none of its 6 entries can be used"):
        PairedFolders(paths["root"], str(tmp_path / "empty"), 64)
