"""The configs whose data are boxes and label maps: without data they lack files, with a miniature of it they run."""

from pathlib import Path
from typing import Any

import pytest
from miniatures import coco, landscapes, openimages, picture

from ldm.check import check
from ldm.checkpoint.foreign import FOREIGN
from ldm.config import AllowedTargets, build, load, validate

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = ["data.params.train.params.size=64", "data.params.validation.params.size=64"]
PIXELS = ROOT / "configs/parts/on-pixels.yaml"  # no first stage, so that nothing else is missing
CHANNELS = ["model.params.model.params.network.params.in_channels=3", "model.params.model.params.network.params.out_channels=3"]
STAGES = "model.params.model.params.conditioner.params.rescaler.params.stages=0"


@pytest.mark.parametrize(
    "name,overrides,key",
    [
        ("layout-coco-ldm8", [*CHANNELS, "paths.coco={tmp}/coco"], "boxes"),
        ("semantic-256", [STAGES, "paths.landscapes={tmp}/land/images", "paths.landscape_labels={tmp}/land/maps"], "segmentation"),
    ],
)
def test_check_lacks_files_without_data_and_is_ready_with_a_miniature(tmp_path: Path, name: str, overrides: list[str], key: str) -> None:
    path, words = ROOT / f"configs/ldm/{name}.yaml", [word.format(tmp=tmp_path) for word in overrides]
    report = check(load([path, PIXELS], [*words, *SMALL]), AllowedTargets())
    assert report.exit_code == 3 and len(report.missing) == 2 and all("data.params." in line for line in report.missing)
    coco(tmp_path / "coco")
    landscapes(tmp_path / "land")
    report = check(load([path, PIXELS], [*words, *SMALL]), AllowedTargets())
    assert (report.exit_code, report.problems, report.missing) == (0, [], []) and key in report.batch


def test_openimages_config_reads_a_miniature(tmp_path: Path) -> None:
    openimages(tmp_path)
    config = load([ROOT / "configs/data/openimages-boxes256.yaml"], [f"paths.openimages_boxes={tmp_path}", *SMALL])
    assert [p for p in validate(config, AllowedTargets()) if p.path.startswith("data")] == []
    data: Any = build(config.data["data"]["params"]["train"], AllowedTargets(), "data.params.train")
    assert len(data) == 2 and data[0]["image"].shape == (3, 64, 64)


@pytest.mark.parametrize(
    "config,where,files",
    [
        ("celebahq256", "celebahq/imgHQ00000.jpg", {"celebahqtrain.txt": "imgHQ00000.jpg", "celebahqvalidation.txt": "imgHQ00000.jpg"}),
        ("ffhq256", "ffhq/00000/00000.png", {"ffhqtrain.txt": "00000.png", "ffhqvalidation.txt": "00000.png"}),
        ("churches256", "churches/a/0.webp", {"church_outdoor_train.txt": "a/0.webp", "church_outdoor_val.txt": "0.webp"}),
        ("bedrooms256", "bedrooms/0.webp", {"bedrooms_train.txt": "0.webp", "bedrooms_val.txt": "0.webp"}),
        ("imagenet256", "imagenet/train/n01440764/n01440764_18.JPEG", {}),
        ("places-masks256", "places/data_large/a/airfield/00000001.jpg", {}),
    ],
)
def test_configs_of_images_read_the_layout_of_the_download(tmp_path: Path, config: str, where: str, files: dict[str, str]) -> None:
    picture(tmp_path / where, size=(300, 260))
    for replaced in (("train", "val"), ("data_large", "val_large")):
        picture(tmp_path / where.replace(*replaced), size=(300, 260))
    for name, line in files.items():
        (tmp_path / name).write_text(line)
    key = Path(where).parts[0]
    content = load([ROOT / f"configs/data/{config}.yaml"], [f"paths.{key}={tmp_path / key}"])
    assert [p for p in validate(content, AllowedTargets()) if p.path.startswith("data")] == []
    parts: list[Any] = [
        build(content.data["data"]["params"][part], AllowedTargets(), f"data.params.{part}") for part in ("train", "validation")
    ]
    assert [(len(part), part[0]["image"].shape) for part in parts] == [(1, (3, 256, 256))] * 2


@pytest.mark.parametrize(
    "target,loader",
    [("lsun.LSUNBedroomsTrain", "LSUN"), ("imagenet.ImageNetTrain", "ImageNet"), ("taming.data.faceshq.FFHQTrain", "FFHQ")],
)
def test_official_data_classes_get_the_loader_of_their_layout(target: str, loader: str) -> None:
    name = target if target.startswith("taming") else f"ldm.data.{target}"
    parts = {part: {"target": name, "params": {"size": 256}} for part in ("train", "validation")}
    content = FOREIGN.translate({"data": {"target": "main.DataModuleFromConfig", "params": {"batch_size": 4, **parts}}}, "official.yaml")
    config = {"model": {"target": "x"}, "trainer": {}, **content}
    nodes = config["data"]["params"]
    assert nodes["train"]["target"] == nodes["validation"]["target"] == f"ldm.data.{loader}"
    assert "flip" not in nodes["validation"]["params"] and nodes["validation"]["params"]["split"] == "validation"
