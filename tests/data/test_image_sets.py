"""Loaders of images in their own layouts: ImageNet, LSUN, CelebA-HQ, FFHQ, Places."""

from pathlib import Path

import numpy as np
import pytest
import torch
from miniatures import picture
from scipy.io import savemat

from ldm.data import FFHQ, LSUN, CelebAHQ, ImageNet, ListedImages, Places
from ldm.data.batch import check_sample
from ldm.errors import MissingFile, UserError


@pytest.mark.parametrize("train,held", [("train", "val"), ("ILSVRC2012_train/data", "ILSVRC2012_validation/data")])
def test_imagenet_ranks_the_training_synsets(tmp_path: Path, train: str, held: str) -> None:
    for i, synset in enumerate(("n02084071", "n01440764", "n09999999")):
        picture(tmp_path / train / synset / f"{synset}_{i}.JPEG", i)
    picture(tmp_path / held / "n02084071" / "ILSVRC2012_val_00000001.JPEG")
    (tmp_path / train / "notes").mkdir()
    data, validation = ImageNet(str(tmp_path), 32), ImageNet(str(tmp_path), 32, split="validation")
    assert [data[i]["label"] for i in range(3)] == [0, 1, 2] and data[0]["id"].startswith("n01440764/")
    assert validation[0]["label"] == 1 and data.class_names["label"][0] == "n01440764"
    (tmp_path / "synset_human.txt").write_text("n01440764 tench, Tinca tinca\nn02084071 dog\n")
    assert ImageNet(str(tmp_path), 32).class_names["label"] == ["tench", "dog", "n09999999"]
    picture(tmp_path / held / "n00000001" / "x.JPEG")
    with pytest.raises(UserError, match="n00000001 is not in"):
        ImageNet(str(tmp_path), 32, split="validation")


def test_imagenet_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="ImageNet"):
        ImageNet(str(tmp_path / "nowhere"), 32)
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="no synset folder"):
        ImageNet(str(tmp_path), 32)
    with pytest.raises(MissingFile, match="no val and no validation"):
        ImageNet(str(tmp_path), 32, split="validation")


VALIDATION = "ILSVRC2012_val_0000000"
ANSWERS = {
    "LOC_val_solution.csv": f"ImageId,PredictionString\n{VALIDATION}2,n01440764 1 2 3 4 n01440764 5 6\n{VALIDATION}1,n02084071 1 2 3 4\n",
    "validation_synset.txt": f"{VALIDATION}1.JPEG n02084071\n{VALIDATION}2.JPEG n01440764\n",
}


@pytest.mark.parametrize("answers", [*ANSWERS, "devkit"])
@pytest.mark.parametrize("held", ["val", "ILSVRC/Data/CLS-LOC/val"])
def test_imagenet_validation_images_in_one_folder(tmp_path: Path, held: str, answers: str) -> None:
    for synset in ("n02084071", "n01440764"):
        picture(tmp_path / held.replace("val", "train") / synset / f"{synset}_1.JPEG")
    for i in (1, 2, 3):
        picture(tmp_path / held / f"{VALIDATION}{i}.JPEG", i)
    with pytest.raises(MissingFile, match="classes of validation images .*no LOC_val_solution.csv"):
        ImageNet(str(tmp_path), 32, split="validation")
    if answers in ANSWERS:
        (tmp_path / answers).write_text(ANSWERS[answers])
    else:
        devkit(tmp_path / "ILSVRC2012_devkit_t12" / "data", [2, 1, 3])
    data = ImageNet(str(tmp_path), 32, split="validation")
    assert [(data[i]["id"], data[i]["label"]) for i in range(2)] == [(f"{VALIDATION}1.JPEG", 1), (f"{VALIDATION}2.JPEG", 0)]
    assert len(data.broken) == 1 and f"{VALIDATION}3.JPEG: of " in data.broken[0]


def devkit(folder: Path, truth: list[int]) -> None:
    """Its classes 1 and 2 are not in the order of the synsets, and a third is a group of both."""
    folder.mkdir(parents=True)
    rows = [(1, "n01440764", "tench", 0), (2, "n02084071", "dog", 0), (3, "n00000003", "both", 2)]
    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    savemat(folder / "meta.mat", {"synsets": np.array(rows, dtype=kinds).reshape(-1, 1)})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{number}\n" for number in truth))


def test_imagenet_says_which_synsets_are_empty_and_which_images_have_none(tmp_path: Path) -> None:
    for name in ("train/n00000002/a.JPEG", "train/cats/b.JPEG", "train/c.JPEG"):
        picture(tmp_path / name)
    (tmp_path / "train" / "n00000001").mkdir()
    data = ImageNet(str(tmp_path), 32)
    assert len(data) == 1 and data[0]["label"] == 1
    reasons = ["c.JPEG: in no synset's folder", "cats/b.JPEG: in no synset's folder", "n00000001: no image in it"]
    assert data.broken == [f"{tmp_path}/train/{reason}" for reason in reasons]


def test_imagenet_answers_that_are_none(tmp_path: Path) -> None:
    picture(tmp_path / "val" / f"{VALIDATION}1.JPEG")
    devkit(tmp_path / "ILSVRC2012_devkit_t12" / "data", [7])
    with pytest.raises(UserError, match="expected ground truth and meta.mat"):
        ImageNet(str(tmp_path), 32, split="validation")
    (tmp_path / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").write_bytes(b"")
    with pytest.raises(UserError, match="expected ground truth and meta.mat"):
        ImageNet(str(tmp_path), 32, split="validation")
    (tmp_path / "LOC_val_solution.csv").write_text("nothing\n")
    with pytest.raises(UserError, match="expected lines like"):
        ImageNet(str(tmp_path), 32, split="validation")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "n01440764.tar").touch()
    with pytest.raises(UserError, match="no synset folder .*must be unpacked"):
        ImageNet(str(tmp_path), 32)


def test_places_as_its_archives_unpack(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / "data_large" / "a" / "airfield" / f"{i:08}.jpg", i)
    with pytest.raises(MissingFile, match="validation images of Places: no val_large"):
        Places(str(tmp_path), 32, split="validation")
    picture(tmp_path / "val_large" / "Places365_val_00000001.jpg")
    picture(tmp_path / "test_large" / "Places365_test_00000001.jpg")
    train, validation = Places(str(tmp_path), 32), Places(str(tmp_path), 32, split="validation")
    assert [train[i]["id"] for i in range(len(train))] == [f"a/airfield/{i:08}.jpg" for i in range(3)]
    assert [record.name for record in validation.records] == ["Places365_val_00000001.jpg"]
    parts = [Places(str(tmp_path / "data_large"), 32, split=split, held_out=0.5) for split in ("train", "validation")]
    assert len(parts[0]) + len(parts[1]) == 3 and len(parts[1]) >= 1


def test_lsun_by_the_authors_lists(tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / "churches" / "ab" / f"{i}.webp", i)
    (tmp_path / "church_outdoor_train.txt").write_text("".join(f"ab/{i}.webp\n" for i in (3, 1, 9)))
    (tmp_path / "church_outdoor_val.txt").write_text("ab/5.webp\n")
    train = LSUN(str(tmp_path / "churches"), "churches", 32, flip=0.5)
    assert [train[i]["id"] for i in range(2)] == ["ab/3.webp", "ab/1.webp"] and len(train) == 2
    assert "church_outdoor_train.txt:3: no ab/9.webp" in train.broken[0]
    assert len(LSUN(str(tmp_path / "churches"), "churches", 32, split="validation")) == 1
    without = [LSUN(str(tmp_path / "churches"), "bedrooms", 32, split=split, held_out=0.3) for split in ("train", "validation")]
    assert len(without[0]) + len(without[1]) == 6 and len(without[1]) >= 1
    with pytest.raises(MissingFile, match="list of images"):
        ListedImages(str(tmp_path / "churches"), 32, names=str(tmp_path / "nowhere.txt"))


def test_celebahq_as_arrays_and_as_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (4, 1, 3, 64, 64), dtype=np.uint8)
    (tmp_path / "celebahq").mkdir()
    for i, array in enumerate(pixels):
        np.save(tmp_path / "celebahq" / f"imgHQ0000{i}.npy", array)
    (tmp_path / "celebahqtrain.txt").write_text("imgHQ00002.npy\nimgHQ00000.npy\n")
    (tmp_path / "celebahqvalidation.txt").write_text("imgHQ00001.npy\n")
    train = CelebAHQ(str(tmp_path / "celebahq"), 64)
    assert len(train) == 2 and len(CelebAHQ(str(tmp_path / "celebahq"), 64, split="validation")) == 1
    assert torch.equal(train[0]["image"], torch.from_numpy(pixels[2, 0]).float() / 127.5 - 1)
    for i in range(7):
        picture(tmp_path / "other" / "images" / f"{i:05}.png", i)
    parts = [CelebAHQ(str(tmp_path / "other" / "images"), 32, split=split) for split in ("train", "validation")]
    assert len(parts[0]) + len(parts[1]) == 7 and len(parts[1]) >= 1


def test_ffhq_flat_and_nested(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / "flat" / f"{i:05}.png", i)
        picture(tmp_path / "nested" / "00000" / f"{i:05}.png", i)
    (tmp_path / "flat" / "ffhqtrain.txt").write_text("00000.png\n00002.png\n")
    assert [r.name for r in FFHQ(str(tmp_path / "flat"), 32).records] == ["00000.png", "00002.png"]
    nested = FFHQ(str(tmp_path / "nested"), 32)
    assert all(r.name.startswith("00000/") for r in nested.records)
    check_sample(nested[0], "ffhq")
    (tmp_path / "flat" / "ffhqtrain.txt").write_text("\n")
    with pytest.raises(UserError, match="an empty list"):
        FFHQ(str(tmp_path / "flat"), 32)
