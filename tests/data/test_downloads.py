"""Loaders of data sets in their own layouts: COCO, OpenImages."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from miniatures import coco, openimages, picture

from ldm.data import Coco, OpenImages
from ldm.data.batch import check_sample, collate
from ldm.data.files import is_text
from ldm.errors import MissingFile, UserError


def test_coco_with_boxes_of_things_and_stuff(tmp_path: Path) -> None:
    coco(tmp_path)
    data = Coco(str(tmp_path), 32)
    assert len(data) == 4 and data.class_names["boxes"] == ["person", "dog", "banner"]
    assert [len(data.record(i).boxes) for i in range(4)] == [2, 3, 4, 5]  # stuff counts; the tiny box and "other" do not
    assert data.record(0).boxes.tolist() == [[0, 0.1, 0.2, 0.6], [0, 0.5, 1, 1]] and data.record(1).box_labels.tolist() == [0, 1, 2]
    assert any("no 000000000004.jpg" in line for line in data.broken) and any("annotation 9001" in line for line in data.broken)
    batch = collate([data[i] for i in range(4)])
    check_sample(data[2], "coco")
    assert [len(boxes) for boxes in batch["boxes"]] == [2, 3, 4, 5]
    half = Coco(str(tmp_path), 32, min_box=0.5)
    assert [len(half[i]["boxes"]) for i in range(4)] == [1, 2, 3, 4]  # a sixth of the leftmost thing is inside the centre crop
    things = Coco(str(tmp_path), 32, stuff=False)
    assert [len(things.record(i).boxes) for i in range(4)] == [1, 2, 3, 4] and things.class_names["boxes"] == ["person", "dog"]
    assert len(Coco(str(tmp_path), 32, objects=(4, 30))) == 2 and len(Coco(str(tmp_path), 32, split="validation")) == 2


def test_coco_groups_have_classes_of_their_own_and_order_means_nothing(tmp_path: Path) -> None:
    coco(tmp_path)
    data = Coco(str(tmp_path), 32, groups=True, crop="random", flip=0.5)
    assert data.record(3).box_labels.tolist() == [0, 1 + 3, 0, 1, 2] and data.class_names["boxes"][4] == "dog (group)"
    orders = {tuple(data.varied(3, 0, place)["box_labels"].tolist()) for place in range(12)}
    assert len(orders) > 3 and torch.equal(data.varied(3, 0, 5)["boxes"], data.varied(3, 0, 5)["boxes"])


def test_coco_with_captions_and_label_maps(tmp_path: Path) -> None:
    coco(tmp_path)
    data = Coco(str(tmp_path), 32, give=["caption", "segmentation"])
    check_sample(data[0], "coco")
    assert {data.varied(1, 0, place)["caption"] for place in range(40)} == {f"picture 1, words {k}" for k in range(5)}
    assert set(data[0]["segmentation"].unique().tolist()) == {0, 90, 181, 255}
    (tmp_path / "stuffthingmaps" / "train2017" / "000000000002.png").unlink()
    assert len(Coco(str(tmp_path), 32, give=["segmentation"])) == 3


def test_coco_says_what_is_missing_or_wrong(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="COCO"):
        Coco(str(tmp_path / "nowhere"), 32)
    coco(tmp_path)
    with pytest.raises(UserError, match="has no 'mask'"):
        Coco(str(tmp_path), 32, give=["mask"])
    with pytest.raises(UserError, match="none of its 4 entries can be used"):
        Coco(str(tmp_path), 32, objects=(50, 60))
    stuff = tmp_path / "annotations" / "stuff_train2017.json"
    stuff.write_text(json.dumps({"images": [], "annotations": [3], "categories": []}))
    with pytest.raises(UserError, match="stuff_train2017.json: has no list of objects 'annotations'"):
        Coco(str(tmp_path), 32)
    stuff.write_text("{")
    with pytest.raises(UserError, match="stuff_train2017.json: not JSON"):
        Coco(str(tmp_path), 32)
    stuff.unlink()
    with pytest.raises(MissingFile, match="stuff_train2017.json"):
        Coco(str(tmp_path), 32)


def test_openimages(tmp_path: Path) -> None:
    openimages(tmp_path)
    data = OpenImages(str(tmp_path), 32)
    assert len(data) == 2 and data.class_names["boxes"] == ["Cat", "Dog", "Suitcase"]  # 01yrx, 0bt9lr, and 01s55n last
    cat, dog = 0, 1
    assert data.record(0).boxes.tolist() == [[0.1, 0.2, 0.5, 0.6], [0.5, 0.2, 0.9, 0.9]]
    assert data.record(0).box_labels.tolist() == [dog, 2] and data.record(1).box_labels.tolist() == [dog, cat]
    check_sample(data[0], "openimages")
    lines = [text.rpartition("/")[2].partition(":")[2].split(":")[0] for text in data.broken[:3]]
    assert lines == ["7", "8", "9"] and "0000000000000099" in data.broken[3]
    assert OpenImages(str(tmp_path), 32, groups=True).record(0).box_labels.tolist() == [dog, 2 + 3]
    (tmp_path / "classes.txt").write_text("Cat\n/m/0bt9lr\n")
    chosen = OpenImages(str(tmp_path), 32, classes=str(tmp_path / "classes.txt"))
    assert sorted(chosen.class_names["boxes"]) == ["Cat", "Dog"] and len(chosen.record(0).boxes) == 1
    assert len(OpenImages(str(tmp_path), 32, classes=str(tmp_path / "classes.txt"), objects=(2, 30))) == 1


def test_openimages_tables_in_other_places_and_wrong_ones(tmp_path: Path) -> None:
    openimages(tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train-annotations-bbox.csv").rename(tmp_path / "annotations" / "oidv6-train-annotations-bbox.csv")
    assert len(OpenImages(str(tmp_path), 32)) == 2
    with pytest.raises(MissingFile, match="validation"):
        OpenImages(str(tmp_path), 32, split="validation")
    (tmp_path / "classes.txt").write_text("Unicorn\n")
    with pytest.raises(UserError, match="'Unicorn' is not a class"):
        OpenImages(str(tmp_path), 32, classes=str(tmp_path / "classes.txt"))
    (tmp_path / "annotations" / "oidv6-train-annotations-bbox.csv").write_text("ImageID,LabelName\n")
    with pytest.raises(UserError, match="has no column 'XMin'"):
        OpenImages(str(tmp_path), 32)
    (tmp_path / "class-descriptions-boxable.csv").unlink()
    with pytest.raises(MissingFile, match="class-descriptions-boxable.csv"):
        OpenImages(str(tmp_path), 32)


def test_coco_entries_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    """Numbers from 0 are as good as any; what comes twice, lies outside or is upside down is not."""
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 60, "height": 40} for i in (0, 1, 1)]
    bad = [{"bbox": [30, 20, -12, -12]}, {"image_id": [1]}, {"category_id": 7}]
    bad += [{"bbox": box} for box in ([100, 100, 40, 40], [-9, 1, 9, 4], [float("nan"), 1, 4, 4], [10**400, 1, 4, 4], "1234")]
    unseen = {"bbox": [30, 20, 0, 10]}
    rows = [{"id": i, "image_id": 0, "category_id": 1, "bbox": [50, 20, 40, 40]} | row for i, row in enumerate([{}, *bad, unseen])]
    (tmp_path / "annotations").mkdir()
    for i in (0, 1):
        picture(tmp_path / "train2017" / f"{i}.jpg", i)
    captions = [{"image_id": 0, "caption": "x"}, {"image_id": 1, "caption": None}]
    content = {"images": images, "categories": [{"id": 1, "name": "dog"}]}
    for kind, found in (("instances", rows), ("captions", captions)):
        (tmp_path / "annotations" / f"{kind}_train2017.json").write_text(json.dumps(content | {"annotations": found}))
    data = Coco(str(tmp_path), 32, stuff=False)
    assert len(data) == 2 and np.allclose(data.record(0).boxes, [[50 / 60, 0.5, 1, 1]])
    assert "image 1: a second one of this id" in data.broken[0] and len(data.broken) == 9
    assert all(f"annotation {i}: expected a bbox" in data.broken[i] for i in range(1, 9))
    assert "outside the image of 60x40 pixels" in data.broken[4]
    spoken = Coco(str(tmp_path), 32, give=["caption"])
    assert len(spoken) == 1 and "1.jpg: no caption" in spoken.broken[-1]
    (tmp_path / "annotations" / "instances_train2017.json").write_text(json.dumps(content | {"annotations": [], "categories": [{"id": 1}]}))
    with pytest.raises(UserError, match="categories: expected id and name"):
        Coco(str(tmp_path), 32, stuff=False)


def test_coco_images_and_captions_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    """A file under two ids, names that are none, captions of nothing and captions that are no text."""
    names = ["0.jpg", "0.jpg", ["0.jpg"], None, "\ud800.jpg"]
    images = [{"id": i, "file_name": name, "width": 60, "height": 40} for i, name in enumerate(names)]
    wrong = [{"image_id": [0], "caption": "x"}, {"image_id": 0, "caption": None}, {"image_id": 0, "caption": "\ud800"}]
    picture(tmp_path / "train2017" / "0.jpg")
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "captions_train2017.json"
    file.write_text(json.dumps({"images": images, "annotations": [*wrong, {"image_id": 0, "caption": "good"}]}))
    data = Coco(str(tmp_path), 32, give=["caption"])
    assert [data[i]["caption"] for i in range(len(data))] == ["good"] and data.broken == [*filter(is_text, data.broken)]
    reasons = ["a second one of this file, 0.jpg", "image 4: no \\ud800.jpg", "image 2: expected", "image 3: expected"]
    assert all(any(reason in line for line in data.broken) for reason in reasons) and len(data.broken) == 4 + 3
    assert sum("expected an image_id and a caption" in line for line in data.broken) == 3
    file.write_text("[" * 100000)
    with pytest.raises(UserError, match="not JSON"):
        Coco(str(tmp_path), 32, give=["caption"])


def test_openimages_says_what_nothing_describes_and_what_comes_twice(tmp_path: Path) -> None:
    openimages(tmp_path)
    table = tmp_path / "train-annotations-bbox.csv"
    table.write_text(table.read_text() + "0000000000000000,xclick,/m/other,1,0.1,0.5,0.2,0.6,0,0,0,0,0\n" * 2)
    picture(tmp_path / "train" / "again" / "0000000000000000.png", 5)
    data = OpenImages(str(tmp_path), 32)
    assert data.files == ["0000000000000000.jpg", "0000000000000001.jpg"] and len(data.record(0).boxes) == 2
    assert "class /m/other: not described; it has 2 boxes" in data.broken[-1]
    assert "again/0000000000000000.png: a second picture of this id, beside 0000000000000000.jpg" in data.broken[0]
    (tmp_path / "some.txt").write_text("Dog\n")
    assert not any("/m/01yrx" in line for line in OpenImages(str(tmp_path), 32, classes=str(tmp_path / "some.txt")).broken)


def test_openimages_as_its_archives_unpack(tmp_path: Path) -> None:
    openimages(tmp_path)
    (tmp_path / "train_0").mkdir()
    (tmp_path / "train").rename(tmp_path / "train_f")
    (tmp_path / "train_f" / "0000000000000001.jpg").rename(tmp_path / "train_0" / "0000000000000001.jpg")
    picture(tmp_path / "validation" / "0000000000000000.jpg")
    described, table = tmp_path / "class-descriptions-boxable.csv", tmp_path / "train-annotations-bbox.csv"
    described.write_text("LabelName,DisplayName\n" + described.read_text())
    described.rename(tmp_path / "oidv7-class-descriptions-boxable.csv")
    table.write_text("\ufeff" + table.read_text())  # as spreadsheets save it
    data = OpenImages(str(tmp_path), 32)
    assert data.files == ["train_0/0000000000000001.jpg", "train_f/0000000000000000.jpg"]
    assert [len(data[i]["boxes"]) for i in (0, 1)] == [2, 2] and len(data.class_names["boxes"]) == 3
