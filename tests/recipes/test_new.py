"""`scripts/new.py` on bare folders of all kinds: what it writes is checked as `--check` does, with the data of the folder."""

import json
import shlex
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from first_stage.others import Other, compvis_vq, dc, sd, va_vae
from PIL import Image

from demos.folders import FOLDERS, pairs
from ldm.check import check
from ldm.check.from_data import from_data
from ldm.checkpoint.source import trained_size
from ldm.cli.new import new
from ldm.cli.summary import stage_two_command
from ldm.config import AllowedTargets, load
from ldm.errors import UserError
from ldm.recipes.plan import shape
from ldm.recipes.survey import survey

RUNS = Path(__file__).resolve().parent.parent / "fixtures" / "runs"
TASK = {
    "photographs": "unconditional",
    "classes": "class",
    "sidecars": "captions",
    "captions-csv": "captions",
    "captions-jsonl": "captions",
    "boxes": "layout",
    "numbers": "condition",
    "maps": "semantic",
    "masks": "inpainting",
    "pairs": "superres",
    "wide": "unconditional",
    "grey": "unconditional",
    "16-bit": "unconditional",
    "transparent": "unconditional",
    "arrays": "unconditional",
}

KIND = {"grey": {"channels": 1}, "16-bit": {"channels": 1, "depth": 16}, "transparent": {"channels": 4}, "arrays": {"channels": 5}}


@pytest.fixture(autouse=True)
def rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """No measurement of the machine, which takes half a second each time."""
    monkeypatch.setattr("ldm.cli.new.matmul_rate", lambda: 1e11)


def flags(folder: Path, out: Path, **more: object) -> Namespace:
    given = {"task": None, "condition": None, "start": None, "size": None, "memory": "0", "price": None, "force": False}
    given["first_stage"] = None
    return Namespace(folder=str(folder), out=str(out), **(given | more))


def checked(path: Path) -> list[str]:
    config = load([path])
    from_data(config, AllowedTargets())
    report = check(config, AllowedTargets())
    assert all("first_stage" in line for line in report.missing), report.missing
    return report.problems


@pytest.mark.parametrize("kind", FOLDERS)
def test_configs_of_a_folder_are_ready(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FOLDERS[kind](tmp_path / "data", 24)
    assert new(flags(tmp_path / "data", tmp_path / "out", condition="brightness" if kind == "numbers" else None)) == 0
    said = capsys.readouterr().out
    assert f"task: {TASK[kind]} (" in said and "--train paths.first_stage=logs/STAGE1" in said
    assert not [word for word in ("DIR", "IMAGE", "MAP.png", "LAYOUT", '"..."') if word in said]  # commands need no other file
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == sorted(["first-stage.yaml", f"{TASK[kind]}.yaml"])
    size = (64, 96) if kind == "wide" else (64, 64) if kind != "classes" else (32, 32)
    for name in written:
        config = load([tmp_path / "out" / name]).data
        assert trained_size(config) == size
        if kind in KIND:
            assert KIND[kind].items() <= config["data"]["params"]["train"]["params"].items()
        assert checked(tmp_path / "out" / name) == []


@pytest.mark.parametrize("task", ["unconditional", "inpainting", "superres"])
@pytest.mark.parametrize("memory", ["8", pytest.param("24", marks=pytest.mark.slow)])
def test_every_task_of_plain_images_on_gpus(task: str, memory: str, tmp_path: Path) -> None:
    FOLDERS["photographs"](tmp_path / "data", 12)
    new(flags(tmp_path / "data", tmp_path / "out", task=task, memory=memory, size=256 if memory == "24" else None))
    assert checked(tmp_path / "out" / f"{task}.yaml") == []


@pytest.mark.parametrize(("kind", "task"), [(sd, "inpainting"), (dc, "superres"), (va_vae, "semantic"), (compvis_vq, "unconditional")])
def test_on_a_first_stage_of_another_program(kind: Callable[[Path], Other], task: str, tmp_path: Path, capsys) -> None:
    FOLDERS["maps" if task == "semantic" else "photographs"](tmp_path / "data", 12)
    path = str(kind(tmp_path / "stage").path)
    assert new(flags(tmp_path / "data", tmp_path / "out", task=task, first_stage=path)) == 0
    said = capsys.readouterr().out
    assert (
        "first-stage.yaml" not in said and "STAGE1" not in said and [path.name for path in (tmp_path / "out").iterdir()] == [f"{task}.yaml"]
    )
    config = load([tmp_path / "out" / f"{task}.yaml"])
    report = check(config, AllowedTargets())
    assert not report.problems and not report.missing


def test_16_bit_images_on_a_first_stage_for_colours(tmp_path: Path) -> None:
    FOLDERS["16-bit"](tmp_path / "data", 12)
    path = str(sd(tmp_path / "stage").path)
    assert new(flags(tmp_path / "data", tmp_path / "out", first_stage=path)) == 0
    assert checked(tmp_path / "out" / "unconditional.yaml") == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"first_stage": str(RUNS / "kl"), "start": str(RUNS / "class")}, "with --start, the first stage is that of the model"),
        ({"first_stage": str(RUNS / "class" / "config.yaml")}, "a config, without weights"),
        ({"task": "class"}, "no classes"),
        ({"task": "captions"}, "no captions"),
        ({"task": "semantic"}, "no label maps"),
        ({"task": "layout"}, "no boxes"),
        ({"condition": "hour"}, "no such numeric column"),
        ({"task": "condition"}, "--condition KEY"),
        ({"size": 50}, "multiple of 32"),
        ({"memory": "much"}, "expected GiB"),
        ({"memory": "-5"}, "expected GiB"),
        ({"memory": "nan"}, "expected GiB"),
        ({"start": str(RUNS / "kl")}, "a first stage; expected a run of stage two"),
        ({"start": str(RUNS / "class"), "size": 64}, "images have the size that the model was trained at"),
        ({"start": str(RUNS / "class"), "task": "superres"}, "its condition is another one"),
        ({"start": str(RUNS / "class")}, "it is conditional on label, which the folder or the task has not"),
    ],
)
def test_what_a_folder_does_not_have_is_said(change: dict[str, object], said: str, tmp_path: Path) -> None:
    FOLDERS["photographs"](tmp_path / "data", 6)
    with pytest.raises(UserError, match=said):
        new(flags(tmp_path / "data", tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


def config_for(folder: Path, out: Path) -> dict[str, Any]:
    assert new(flags(folder, out, task="unconditional")) == 0
    for name in ("first-stage.yaml", "unconditional.yaml"):
        assert checked(out / name) == []
    return load([out / "unconditional.yaml"]).data


def test_of_few_images_none_is_held_out(tmp_path: Path) -> None:
    FOLDERS["photographs"](tmp_path / "data", 1)
    found = config_for(tmp_path / "data", tmp_path / "out")["data"]["params"]
    assert found["train"]["params"]["split"] == found["validation"]["params"]["split"] == "all"


def test_folders_train_and_val_are_no_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FOLDERS["photographs"](tmp_path / "data" / "train", 50)
    FOLDERS["photographs"](tmp_path / "data" / "val", 5)
    (tmp_path / "data" / "README.txt").write_text("about")
    config = config_for(tmp_path / "data", tmp_path / "out")
    assert "held-out images in" in (said := capsys.readouterr().out) and "subfolders" not in said
    parts = config["data"]["params"]
    roots = [Path(parts[name]["params"]["root"]) for name in ("train", "validation")]
    assert roots == [tmp_path / "data" / "train", tmp_path / "data" / "val"]
    assert "split" not in parts["train"]["params"] and "flip" not in parts["validation"]["params"]


def test_held_out_images_of_other_classes_are_not_used(tmp_path: Path) -> None:
    for name, classes in (("train", "abc"), ("val", "bc"), ("test", "")):
        (tmp_path / name).mkdir()
        for one in classes:
            (tmp_path / name / one).mkdir()
            Image.new("RGB", (40, 40)).save(tmp_path / name / one / "0.png")
    found = survey(tmp_path)
    assert found.classes == ("a", "b", "c") and found.validation is None
    Image.new("RGB", (40, 40)).save(tmp_path / "val" / "a.png")
    (tmp_path / "val" / "a").mkdir()
    (tmp_path / "val" / "a.png").rename(tmp_path / "val" / "a" / "0.png")
    assert survey(tmp_path).validation == tmp_path / "val"


def test_folders_train_and_val_of_paired_folders(tmp_path: Path) -> None:
    FOLDERS["masks"](tmp_path / "inside" / "train", 12)
    found = survey(tmp_path / "inside")
    assert found.root == tmp_path / "inside" / "train" / "images" and found.beside.keys() == {"mask"} and found.validation is None
    for name in ("train", "val"):
        for part in ("images", "labels"):
            FOLDERS["photographs"](tmp_path / "below" / part / name, 3)
    assert survey(tmp_path / "below").classes == ()


def test_masks_among_the_images_are_noticed(tmp_path: Path) -> None:
    FOLDERS["photographs"](tmp_path / "data", 3)
    first = next(path for path in (tmp_path / "data").rglob("*") if path.is_file())
    first.with_name(f"{first.stem}_mask.png").write_bytes(first.read_bytes())
    with pytest.raises(UserError, match="_mask.png seems to be a mask"):
        new(flags(tmp_path / "data", tmp_path / "out"))


@pytest.mark.parametrize(
    ("box", "said"),
    [({"label": 1, "box": [3, 4, 20, 30]}, "leaves the image: expected fractions"), ({"label": "cat", "box": [0, 0, 1, 1]}, "label")],
)
def test_boxes_that_cannot_be_used_are_said_before_training(box: object, said: str, tmp_path: Path, capsys) -> None:
    FOLDERS["photographs"](tmp_path / "data", 2)
    name = next((tmp_path / "data").rglob("*.jpg")).name
    (tmp_path / "data" / "metadata.jsonl").write_text(json.dumps({"file_name": name, "boxes": [box]}) + "\n")
    with pytest.raises(UserError, match=f"no boxes: {name}: .*{said}"):
        new(flags(tmp_path / "data", tmp_path / "out", task="layout"))
    assert new(flags(tmp_path / "data", tmp_path / "out")) == 0
    assert "boxes that cannot be used" in capsys.readouterr().out


def test_shape_of_images() -> None:
    assert [shape(64, aspect) for aspect in (0.8, 1.0, 1.25)] == [(64, 64)] * 3
    assert [shape(256, aspect) for aspect in (0.75, 1.5, 1.78, 5.0)] == [(352, 256), (256, 384), (256, 448), (256, 512)]


def test_configs_are_not_overwritten(tmp_path: Path) -> None:
    FOLDERS["photographs"](tmp_path / "data", 6)
    new(flags(tmp_path / "data", tmp_path / "out"))
    with pytest.raises(UserError, match="already exists"):
        new(flags(tmp_path / "data", tmp_path / "out"))
    new(flags(tmp_path / "data", tmp_path / "out", force=True))


def test_fine_tuning_keeps_the_vocabulary_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FOLDERS["sidecars"](tmp_path / "data", 6)
    monkeypatch.chdir(RUNS)  # where the recorded run names its first stage
    assert new(flags(tmp_path / "data", tmp_path / "out", start="text")) == 0
    model = load([tmp_path / "out" / "fine-tune-captions.yaml"]).data["model"]["params"]
    assert model["model"]["params"]["conditioner"]["params"]["tokenizer"]["target"] == "ldm.conditioning.WordTokenizer"
    assert model["start"]["params"] == {"checkpoint": "text", "strict": False}


def test_captioned_images_are_not_mirrored(tmp_path: Path) -> None:
    FOLDERS["sidecars"](tmp_path / "data", 6)
    new(flags(tmp_path / "data", tmp_path / "out"))
    assert load([tmp_path / "out" / "captions.yaml"]).data["data"]["params"]["train"]["params"]["flip"] == 0.0


def test_pairs_of_16_bit_are_trained_with_all_bits(tmp_path: Path) -> None:
    pairs(tmp_path / "data", 12)
    for path in (tmp_path / "data").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path).convert("L"), dtype=np.uint16) * np.uint16(257)).save(path)
    new(flags(tmp_path / "data", tmp_path / "out"))
    assert load([tmp_path / "out" / "superres.yaml"]).data["data"]["params"]["train"]["params"]["depth"] == 16
    assert checked(tmp_path / "out" / "superres.yaml") == []


@pytest.mark.parametrize(("text", "word"), [("a dog\non grass", "a dog on grass"), ("-sale-", "--prompt=-sale-")])
def test_the_printed_prompt_is_a_caption(text: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FOLDERS["photographs"](tmp_path / "data", 6)
    for path in sorted((tmp_path / "data").iterdir()):
        path.with_suffix(".txt").write_text(text)
    assert new(flags(tmp_path / "data", tmp_path / "out")) == 0
    assert word in shlex.split(capsys.readouterr().out.splitlines()[-1])


def test_after_stage_one_comes_the_config_beside_it(tmp_path: Path) -> None:
    FOLDERS["photographs"](tmp_path / "data", 6)
    new(flags(tmp_path / "data", tmp_path / "out"))
    base = str(tmp_path / "out" / "first-stage.yaml")
    line = stage_two_command(Path("logs/x"), load([base]), Namespace(base=[base], logdir="logs", trust=[], allow_env=[]))
    assert shlex.split(line)[2:] == ["--base", str(tmp_path / "out" / "unconditional.yaml"), "--train", "paths.first_stage=logs/x"]
