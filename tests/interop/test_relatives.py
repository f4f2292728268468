"""YAML of taming-transformers and of Stable Diffusion: what has an equal here is it; else the message says what to write."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from official import trees
from PIL import Image

from ldm.checkpoint.foreign import FOREIGN
from ldm.config import AllowedTargets, build, load
from ldm.errors import UserError

TREE = trees()["models-first_stage-vq-f8-n256"]


def translated(folder: Path, change: Any) -> dict[str, Any]:
    tree = yaml.safe_load(yaml.safe_dump(TREE))
    change(tree)
    (folder / "theirs.yaml").write_text(yaml.safe_dump(tree))
    return load([folder / "theirs.yaml"], foreign=FOREIGN).data


def with_data(target: str, **params: Any) -> Any:
    def change(tree: dict[str, Any]) -> None:
        tree["data"]["params"] |= {"train": {"target": target, "params": params}}
        tree["data"]["params"].pop("validation")

    return change


def pictures(folder: Path, names: list[str]) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 32), "red").save(folder / name)
    return [str(folder / name) for name in names]


@pytest.mark.parametrize(
    "target,key",
    [("taming.data.custom.CustomTrain", "training_images_list_file"), ("taming.data.custom.CustomTest", "test_images_list_file")],
)
def test_a_list_of_ones_own_images(tmp_path: Path, target: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    absolute = pictures(tmp_path, ["b.png", "deep/a [1].jpg", "c.png"])
    (tmp_path / "list.txt").write_text("\n".join([absolute[0], "deep/a [1].jpg", "gone.png", absolute[0], ""]))
    node = translated(tmp_path, with_data(target, **{key: str(tmp_path / "list.txt"), "size": 16}))["data"]["params"]["train"]
    data = build(node, AllowedTargets())
    assert type(data).__name__ == "ListedImages" and len(data) == 2 and tuple(data[1]["image"].shape) == (3, 16, 16)
    assert [Path(record.name).name for record in data.records] == ["b.png", "a [1].jpg"]  # in the list's order
    assert len(data.broken) == 2 and "no file gone.png" in data.broken[0] and "a second time" in data.broken[1]


def test_a_list_of_ones_own_images_is_checked(script, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="CustomTrain: needs training_images_list_file or test_images_list_file"):
        translated(tmp_path, with_data("taming.data.custom.CustomTrain", size=16))
    with pytest.raises(UserError, match="needs root"):
        build({"target": "ldm.data.ListedImages", "params": {"root": None, "size": 16}}, AllowedTargets())


@pytest.mark.parametrize(
    "target,params,made",
    [
        ("taming.data.imagenet.ImageNetTrain", {"config": {"size": 64}}, "ldm.data.ImageNet"),
        ("taming.data.faceshq.FFHQValidation", {"size": 64}, "ldm.data.FFHQ"),
        ("taming.data.faceshq.FacesHQTrain", {"size": 64, "crop_size": 48}, "ldm.data.Mixed"),
    ],
)
def test_their_data_classes_have_an_equal(tmp_path: Path, target: str, params: Any, made: str) -> None:
    node = translated(tmp_path, with_data(target, **params))["data"]["params"]["train"]
    assert node["target"] == made
    if made == "ldm.data.Mixed":
        assert [one["target"] for one in node["params"]["sets"]] == ["ldm.data.CelebAHQ", "ldm.data.FFHQ"]
        assert all(one["params"] | {"resize": 64, "size": 48, "crop": "random"} == one["params"] for one in node["params"]["sets"])


@pytest.mark.parametrize(
    "change,message",
    [
        (with_data("taming.data.coco.CocoCaptionsTrain"), r"ldm\.data\.Coco reads .*: write data\.params\.train of your own"),
        (with_data("ldm.data.personalized.PersonalizedBase"), r"AnnotatedFolder reads .* write data\.params\.train of your own"),
        (with_data("my.Data"), r"unknown target 'my\.Data': write data\.params\.train of your own .*ldm\.data\.ImageFolder"),
        (lambda tree: tree["data"].update(target="main.WebDataModuleFromConfig"), r"expected main\.DataModuleFromConfig; write data"),
        (lambda tree: tree["model"].update(target="taming.models.vqgan.GumbelVQ"), r"GumbelVQ'; there are autoencoder\.AutoencoderKL"),
    ],
)
def test_what_has_no_equal_says_what_to_write(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        translated(tmp_path, change)
    assert "theirs.yaml" in str(error.value)


@pytest.mark.parametrize(
    "target,more", [("taming.models.vqgan.VQModel", {}), ("ldm.models.autoencoder.VQModel", {"use_ema": True, "sane_index_shape": True})]
)
def test_their_first_stages_under_other_names(tmp_path: Path, target: str, more: Any) -> None:
    def change(tree: dict[str, Any]) -> None:
        tree["model"]["target"] = target
        tree["model"]["params"] |= more

    made = translated(tmp_path, change)["model"]["params"]["autoencoder"]
    assert made == translated(tmp_path, lambda tree: None)["model"]["params"]["autoencoder"]
