import pytest
import torch

from demos.caption_checker import judge
from demos.conditions import caption_of
from ldm.data.sources.scenes import CLASSES, PLACED, Scenes
from ldm.errors import UserError
from ldm.evaluation.scene_conditions import found_map, layout_iou, object_agreement, pixel_agreement
from ldm.evaluation.scenes import find, find_all

N = 24


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes(N, split="validation", seed=5, map_classes="shape_colour", boxes="drawn", label_classes="shape_colour_place")


def test_real_scenes_agree_with_themselves_and_not_with_others(scenes: Scenes) -> None:
    samples = [scenes[i] for i in range(N)]
    found = find_all(torch.stack([s["image"] for s in samples]))
    own = [layout_iou(s["boxes"], s["box_labels"], f) for s, f in zip(samples, found, strict=True)]
    other = [layout_iou(s["boxes"], s["box_labels"], f) for s, f in zip(samples, found[1:] + found[:1], strict=True)]
    assert min(own) > 0.7 and sum(own) / N > 0.9 and sum(other) / N < 0.15
    asked, got = torch.stack([s["segmentation"] for s in samples]), torch.stack([found_map(f, (32, 32)) for f in found])
    assert pixel_agreement(asked, got).min() > 0.96 and object_agreement(asked, got).mean() > 0.9
    assert object_agreement(asked, got.roll(1, 0)).mean() < 0.1 < pixel_agreement(asked, got.roll(1, 0)).mean()
    alone = [i for i in range(N) if len(samples[i]["boxes"]) == 1]
    assert all(judge(samples[i]["image"], caption_of(samples[i]["label"])).all for i in alone) and len(alone) > 5
    assert scenes.class_names["label"] == list(PLACED) and len(PLACED) == 4 * len(CLASSES)


def test_layout_overlap_against_its_definition() -> None:
    scene = Scenes(1, two_objects=0.0, boxes="drawn")[0]
    found = find_all(scene["image"][None])[0]
    x0, y0, x1, y1 = found[0].box
    assert layout_iou(torch.tensor([found[0].box]), torch.tensor([found[0].label]), found) == pytest.approx(1.0)
    half = torch.tensor([[x0, y0, (x0 + x1) / 2, y1]])
    assert layout_iou(half, torch.tensor([found[0].label]), found) == pytest.approx(0.5)
    wrong = torch.tensor([(found[0].label + 1) % 24])
    assert layout_iou(half, wrong, found) == 0.0 and layout_iou(half, wrong, found, by_class=False) == pytest.approx(0.5)
    two = torch.cat([torch.tensor([found[0].box]), torch.tensor([[0.0, 0.0, 0.01, 0.01]])])
    assert layout_iou(two, torch.tensor([found[0].label] * 2), found) == pytest.approx(0.5, abs=0.01)  # one box of two is not there
    assert layout_iou(half, wrong, []) == 0.0


def test_agreement_of_maps_against_counting() -> None:
    asked, got = torch.zeros(1, 4, 4, dtype=torch.int64), torch.zeros(1, 4, 4, dtype=torch.int64)
    asked[0, 0] = 3
    got[0, 0, :2], got[0, 1, 0] = 3, 5
    assert float(pixel_agreement(asked, got)) == pytest.approx(13 / 16)
    assert float(object_agreement(asked, got)) == pytest.approx(2 / 5)
    assert float(object_agreement(0 * asked, 0 * got)) == 0.0


def test_images_that_no_scene_could_be_are_refused() -> None:
    with pytest.raises(UserError, match="reads square images, got 64x32"):
        find(torch.zeros(3, 32, 64))
