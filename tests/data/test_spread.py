"""The few samples that stand for a whole set: always the same, spread over the set and over its classes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from miniatures import picture
from PIL import Image

from ldm.cli.pictures import cover
from ldm.data import AnnotatedFolder, Digits, ImageFolder, ImageNet, Inpainting, Mixed
from ldm.data.images import read_image, to_tensor
from ldm.data.order import kinds, spread
from ldm.data.transforms import view
from ldm.evaluation.images import Prepare
from ldm.training.datamodule import DataModule


@pytest.mark.parametrize("length", [1, 2, 7, 64, 100])
def test_the_first_are_spread_and_all_come_once(length: int) -> None:
    order = spread(length, length + 5)
    assert sorted(order) == list(range(length))
    for n in range(1, length):
        assert order[:n] == spread(length, n)  # fewer are the first of more
        gaps = np.diff([0, *sorted(order[:n]), length])
        assert max(gaps) <= 2 * length / n + 1


def test_every_kind_has_its_turn_and_then_its_share() -> None:
    classes = ["a"] * 90 + ["b"] * 9 + ["c"]
    assert {classes[i] for i in spread(100, 3, classes)} == {"a", "b", "c"}
    half = Counter(classes[i] for i in spread(100, 50, classes))
    assert half["c"] == 1 and 4 <= half["b"] <= 7
    assert sorted(spread(100, 100, classes)) == list(range(100))
    many = [i // 3 for i in range(3000)]  # more classes than samples are asked for
    assert max(np.diff(sorted(many[i] for i in spread(3000, 64, many)))) <= 32


def folders(root: Path, count: int = 5, each: int = 6) -> Path:
    for i in range(count):
        for k in range(each):
            picture(root / f"class-{i}" / f"{k}.png", i * each + k, (16, 16))
    return root


def ids(data: DataModule, count: int) -> list[str]:
    return [name for batch in data.validation_batches(count) for name in batch["id"]]


@pytest.mark.parametrize("labels", [True, False])
def test_validation_reaches_all_folders_whatever_the_batches(tmp_path: Path, labels: bool) -> None:
    dataset = ImageFolder(str(folders(tmp_path)), 8, labels=labels)
    for wrapped, count in ((dataset, 1), (Inpainting(dataset, "half"), 1), (Mixed([dataset, dataset]), 2)):
        assert len({name.split("/")[0] for name in ids(DataModule(5, wrapped), count)}) == 5
    data = DataModule(10, dataset)
    whole = ids(data, 2)
    assert Counter(name.split("/")[0] for name in whole) == {f"class-{i}": 4 for i in range(5)}
    assert ids(data, 2) == whole == ids(DataModule(10, dataset, max_per_device=3), 2) == ids(DataModule(20, dataset), 1)
    assert ids(data, 1) == whole[:10] and len(data.validation_batches(2)) == 2
    assert len(ids(DataModule(64, dataset), 9)) == 30  # no more than there are


def test_sets_that_know_their_classes_say_so(tmp_path: Path) -> None:
    assert {Digits("validation").labels[i].item() for i in spread(360, 10, kinds(Digits("validation")))} == set(range(10))
    for synset in ("n00000001", "n00000002"):
        for k in range(3):
            picture(tmp_path / "train" / synset / f"{k}.JPEG", k)
    data = ImageNet(str(tmp_path), 32)
    assert list(kinds(data)) == [0, 0, 0, 1, 1, 1] and {data[i]["label"] for i in spread(6, 2, kinds(data))} == {0, 1}
    rows = "".join(f'{{"file_name": "train/n0000000{1 + i % 2}/{i % 3}.JPEG", "caption": "a"}}\n' for i in range(4))
    (tmp_path / "metadata.jsonl").write_text(rows)
    assert set(kinds(AnnotatedFolder(str(tmp_path), 32))) == {"train/n00000001", "train/n00000002"}


@pytest.mark.parametrize("size", [(41, 30), (43, 30), (45, 30), (30, 47), (33, 31)])
def test_centre_crops_are_the_same_in_training_evaluation_and_use(size: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    side = min(size)
    trained = np.asarray(view(size, side, side, "center").picture(image))
    assert np.array_equal(trained, np.asarray(Prepare(side)(image))) and np.array_equal(trained, np.asarray(cover(image, side, side)))
    smaller = np.asarray(view(size, side, side - 1, "center").picture(image))
    left, top = (size[0] - side + 1) // 2, (size[1] - side + 1) // 2
    assert np.array_equal(smaller, np.asarray(image)[top : top + side - 1, left : left + side - 1])


def test_sixteen_bit_is_rounded(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 32767, 65534, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    assert np.asarray(read_image(tmp_path / "x.png", 1)).tolist() == [[0, 0, 1, 1, 127, 255, 255]]
    assert torch.equal(to_tensor(read_image(tmp_path / "x.png", 3))[:, 0, -2], torch.ones(3))
