import torch

from demos.caption_checker import SceneObject, judge, parse, share_right
from demos.digits import DigitReader, diversity, measure, nearest
from ldm.data import Digits, Scenes
from ldm.data.sources.scenes import COLOURS, PLACES, SHAPES
from ldm.evaluation.scenes import find


def scenes(n: int, split: str = "validation", seed: int = 5) -> tuple[torch.Tensor, list[str]]:
    data = Scenes(n, split=split, seed=seed)
    samples = [data[i] for i in range(n)]
    return torch.stack([s["image"] for s in samples]), [s["caption"] for s in samples]


def test_the_checker_reads_real_scenes() -> None:
    images, captions = scenes(150)
    assert share_right(images, captions)["all"] >= 0.99


def test_the_checker_refuses_wrong_captions_and_empty_pictures() -> None:
    images, captions = scenes(60)
    shifted = captions[1:] + captions[:1]
    same = sum(sorted(map(str, parse(a))) == sorted(map(str, parse(b))) for a, b in zip(captions, shifted, strict=True))
    assert share_right(images, shifted)["all"] <= (same + 1) / 60
    noise = torch.rand(60, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert share_right(noise, captions)["all"] <= 0.05  # a blob of noise can look like anything, rarely like what was asked
    assert share_right(torch.zeros(20, 3, 32, 32), captions[:20])["all"] == 0.0


def test_each_property_is_told_apart() -> None:
    data = Scenes(40, split="validation", seed=2, two_objects=0.0)
    for i in range(40):
        (thing,), _ = data.scene(i)
        image = data[i]["image"]
        shape, colour = SHAPES[thing.shape], list(COLOURS)[thing.colour]
        other_shape, other_colour = SHAPES[(thing.shape + 1) % 4], list(COLOURS)[(thing.colour + 1) % 6]
        other_place = next(p for p in PLACES if p != thing.place)
        right = judge(image, f"a {colour} {shape} on the {thing.place}")
        assert right.all and right.shape and right.colour and right.place
        assert not judge(image, f"a {colour} {other_shape} on the {thing.place}").shape
        assert not judge(image, f"a {other_colour} {shape} on the {thing.place}").colour
        assert not judge(image, f"a {colour} {shape} on the {other_place}").place


def test_an_extra_object_is_wrong_and_a_missing_one_too() -> None:
    data = Scenes(40, split="validation", seed=3, two_objects=1.0)
    for i in range(10):
        a, b = data[i]["caption"].split(" and ")
        assert not judge(data[i]["image"], a).all and not judge(data[i]["image"], b).all
        assert len(find(data[i]["image"])) == 2


def test_captions_are_parsed() -> None:
    assert parse("a small red circle on the left and a cyan cross at the top") == [
        SceneObject("circle", "red", "left"),
        SceneObject("cross", "cyan", "top"),
    ]


def test_the_reader_reads_real_digits_and_not_noise() -> None:
    held = Digits("validation", 32)
    reader = DigitReader(32)
    assert reader.accuracy(held.images, held.labels) > 0.97
    assert reader.accuracy(torch.rand(200, 1, 32, 32) * 2 - 1, torch.arange(200) % 10) < 0.3


def test_digit_measures_on_real_and_broken_samples() -> None:
    held = Digits("validation", 32)
    real = measure(held.images, held.labels)
    assert real["accuracy"] == real["accuracy_real"] and 0.94 <= real["near_real_share"] <= 0.96
    noisy = measure((held.images + 0.5 * torch.randn(held.images.shape)).clamp(-1, 1), held.labels)
    assert noisy["near_real_share"] < 0.2
    copies = held.images[:1].expand(20, -1, -1, -1)
    assert diversity(copies, torch.zeros(20)) < 1e-3 < diversity(held.images, held.labels)


def test_nearest_by_hand() -> None:
    distance, index = nearest(torch.tensor([[[[0.0, 3.0]]]]), torch.tensor([[[[0.0, 0.0]]], [[[4.0, 3.0]]]]))
    assert float(distance) == 3.0 and int(index) == 0
