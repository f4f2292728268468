"""Classes by name: in flags, files and Python, in pictures, in printed commands and in what is given away."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_task_scripts import config_of, made

import ldm
from ldm.checkpoint.load import load_model
from ldm.cli.card import conditions
from ldm.cli.next_command import sampling_command
from ldm.cli.publish import published_config
from ldm.data.classes import Classes, class_names
from ldm.data.fonts import legible
from ldm.data.grid import grid_of, named_grid
from ldm.errors import UserError
from ldm.evaluation.report import changed
from ldm.system.weights import save_weights
from ldm.training.callbacks.metrics import MetricLogger
from ldm.training.callbacks.validation import ValidationCallback

NAMES = ["dog", "tabby cat", "10", "salt, pepper", "3"]
BOXES = ["person", "t-shirt", *(f"thing {i}" for i in range(62))]
FAST = ["--steps", 1, "--device", "cpu"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, found = tmp_path_factory.mktemp("models"), {}
    for name in ("label", "layout", "unconditional"):
        config = config_of(name) | {"classes": {"label": NAMES, "boxes": BOXES}}
        found[name] = folder / f"{name}.safetensors"
        save_weights(found[name], made(config["model"]["params"]["model"]).state_dict(), {"config": config, "step": 1})
    shape = {"in_channels": 2, "classes": 5, "size": 8, "width": 32, "width_mult": [1, 2], "blocks_per_level": 1, "heads": 1}
    node = {"target": "ldm.networks.NoisyClassifier", "params": shape}
    params = {"classifier": node, "scale": 1.0, "process": {"target": "ldm.diffusion.cosine", "params": {}}}
    config = {"model": {"target": "ldm.training.ClassifierTraining", "params": params}, "classes": {"label": ["a", "b", "c", "d", "e"]}}
    found["classifier"] = folder / "classifier.safetensors"
    save_weights(found["classifier"], made(node).state_dict(), {"config": config, "step": 1})
    return found


def noted(path: Path) -> dict[str, Any]:
    with Image.open(path) as opened:
        return json.loads(opened.text["ldm"])  # type: ignore[attr-defined]


def labels(outdir: Path) -> list[tuple[int, str | None]]:
    found = [noted(path) for path in sorted(outdir.glob("0*.png"))]
    return [(one["label"], one.get("class")) for one in found]


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("tabby cat", [1]),
        ("dog,tabby cat", [0, 1]),
        (" tabby cat , 0-1", [1, 0, 1]),
        ("3", [3]),  # a number that fits, although class 4 has this name
        ("10", [2]),  # no class has this number
        ("salt, pepper", [3]),
        ("0,3", [0, 3]),
    ],
)
def test_a_name_where_no_number_fits(text: str, indices: list[int]) -> None:
    assert Classes(5, NAMES).listed(text) == indices


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tabby", "no class has the name 'tabby'; did you mean 'tabby cat'?"),
        ("dgo", "did you mean 'dog'?"),
        ("zebra", "there are 'dog', 'tabby cat', '10', 'salt, pepper' ..., or numbers from 0 to 4"),
        ("7", "there are classes 0 to 4, and none has this name"),
        ("dog,pepper", "did you mean 'salt, pepper'?"),
    ],
)
def test_a_name_that_fits_no_class_is_one_message(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        Classes(5, NAMES).listed(text)
    assert message in str(error.value)


def test_a_number_that_is_also_the_name_of_another_class_is_told(caplog: pytest.LogCaptureFixture) -> None:
    Classes(5, NAMES).listed("3")
    assert "--classes 3 is class number 3 (salt, pepper); the class of that name is 4" in caplog.text


def test_two_classes_of_one_name() -> None:
    cranes = Classes(3, ["crane", "dog", "crane"])
    with pytest.raises(ValueError, match="classes 0, 2 have the name 'crane': give the number"):
        cranes.listed("crane")
    assert cranes.listed("2,dog") == [2, 1] and cranes.as_flag(3) == ["--classes", "0-2"]


def test_strings_are_names_first_and_lines_of_text_are_numbers_first() -> None:
    known = Classes(5, NAMES)
    assert [known.index("3"), known.index("3", text=True), known.index(3), known.index("10", text=True)] == [4, 3, 3, 2]
    assert known.index("2") == 2 and Classes(9, {"1": 0, "2": 1}).index("2") == 1
    assert Classes(2, ["Ka\u0308se", "x"]).index("K\u00e4se") == 0
    for wrong in (True, None, 5, -1, "9" * 5000, "²"):
        with pytest.raises(ValueError):
            known.index(wrong)


@pytest.mark.parametrize("content", [None, [], {"label": "dog"}, {"label": {"0": "dog"}}])
def test_a_header_without_names(content: Any) -> None:
    assert class_names({"classes": content}) == {}


def test_classes_by_name_in_flags(models: dict[str, Path], script, tmp_path: Path) -> None:
    words = ["--classes", "tabby cat,2", "--classes", "salt, pepper", "--n", 4, *FAST, "--outdir", tmp_path / "out"]
    done = script("scripts/sample.py", models["label"], *words)
    assert done.returncode == 0, done.stderr
    assert labels(tmp_path / "out") == [(1, "tabby cat"), (2, "10"), (3, "salt, pepper"), (1, "tabby cat")]
    with Image.open(tmp_path / "out" / "grid.png") as grid, Image.open(next((tmp_path / "out").glob("0*.png"))) as image:
        assert grid.width == 4 * (96 + 2) + 2 and grid.height == 2 + 96 // image.width * image.height + 14 + 2
    done = script("scripts/sample.py", models["label"], "--classes", "tabby", *FAST, "--outdir", tmp_path / "wrong")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "did you mean 'tabby cat'?" in done.stderr


def test_the_names_of_a_classifier(models: dict[str, Path], script, tmp_path: Path) -> None:
    words = ["--classifier", models["classifier"], "--classes", "d", "--n", 1, *FAST, "--outdir", tmp_path]
    done = script("scripts/sample.py", models["unconditional"], *words)
    assert done.returncode == 0, done.stderr
    assert labels(tmp_path) == [(3, "d")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "tabby cat\n3\n10\n"),
        ("a.jsonl", '{"label": "tabby cat"}\n{"label": 3}\n{"label": "10"}\n'),
        ("a.csv", "label\ntabby cat\n3\n10\n"),
    ],
)
def test_classes_by_name_in_files(models: dict[str, Path], script, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    done = script("scripts/sample.py", models["label"], "--from-file", tmp_path / name, *FAST, "--outdir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert [label for label, _ in labels(tmp_path / "out")] == [1, 3, 2]
    (tmp_path / name).write_text(content.replace("tabby cat", "tabby"))
    done = script("scripts/sample.py", models["label"], "--from-file", tmp_path / name, *FAST, "--outdir", tmp_path / "wrong")
    assert done.returncode == 2 and "image 1: label 'tabby': no class has the name 'tabby'; did you mean 'tabby cat'?" in done.stderr


def test_the_names_of_boxes_are_those_of_the_run(models: dict[str, Path], script, tmp_path: Path) -> None:
    def sampled(label: object, *more: object) -> Any:
        (tmp_path / "layout.json").write_text(json.dumps({"boxes": [{"label": label, "box": [0, 0, 1, 1]}]}))
        words = [models["layout"], tmp_path / "layout.json", "--n", 1, *FAST, "--overwrite", "--outdir", tmp_path / "out", *more]
        return script("scripts/layout2img.py", *words)

    assert sampled("t-shirt").returncode == 0
    assert noted(next((tmp_path / "out").glob("0*.png")))["boxes"][0]["index"] == 1
    wrong = sampled("shirt")
    assert wrong.returncode == 2 and "did you mean 't-shirt'?" in wrong.stderr
    (tmp_path / "names.json").write_text('{"shirt": 7}')
    assert sampled("shirt", "--names", tmp_path / "names.json").returncode == 0
    assert noted(next((tmp_path / "out").glob("0*.png")))["boxes"][0]["index"] == 7


def test_classes_by_name_in_python(models: dict[str, Path]) -> None:
    model = ldm.load(models["label"], device="cpu")
    options = {"n": 3, "settings": {"steps": 1}, "output": "tensor"}
    assert torch.equal(model.sample(label=["tabby cat", "10", 0], **options), model.sample(label=[1, 2, 0], **options))
    assert torch.equal(model.sample(label="dog", **options), model.sample(label=0, **options))
    assert model.class_names["label"] == NAMES
    with pytest.raises(UserError, match="label 'cat': no class has the name 'cat'; did you mean 'tabby cat'"):
        model.sample(label="cat")
    layouts = ldm.load(models["layout"], device="cpu")
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])
    two = [layouts.sample(boxes=[boxes], box_labels=one, **options) for one in (["person", "t-shirt"], [["person", "t-shirt"]], [[0, 1]])]
    assert torch.equal(two[0], two[1]) and torch.equal(two[0], two[2])


def test_the_next_command_has_names(models: dict[str, Path], script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(str(models["label"])).model
    line = sampling_command(model, models["label"], {}, names={"label": ["dog", "tabby cat", "it's", "x", "y"]}) or ""
    assert shlex.split(line)[3:5] == ["--classes", "dog,tabby cat,it's,x"]
    for names, expected in ((["1", "0", "c", "d", "e"], ["--classes", "0-3"]), (["-a", "b", "c", "d", "e"], ["--classes", "0-3"])):
        assert shlex.split(sampling_command(model, models["label"], {}, names={"label": names}) or "")[3:5] == expected
    words = shlex.split(sampling_command(model, models["label"], {}, names={"label": NAMES}) or "")
    assert words[3:11] == ["--classes", "dog", "--classes", "tabby cat", "--classes", "10", "--classes", "salt, pepper"]
    monkeypatch.chdir(tmp_path)
    assert script("scripts/sample.py", *words[2:], *FAST).returncode == 0

    sample = {"boxes": torch.tensor([[0.0, 0.0, 1.0, 1.0]]), "box_labels": torch.tensor([1])}
    sampling_command(load_model(str(models["layout"])).model, tmp_path, sample, names={"boxes": BOXES})
    assert json.loads((tmp_path / "examples" / "layout.json").read_text())["boxes"][0]["label"] == "t-shirt"


def test_pictures_have_names(tmp_path: Path) -> None:
    images = torch.zeros(3, 1, 8, 8)
    drawn = named_grid(images, ["dog", "", "a name that is much too long for so small a picture"], columns=2)
    assert drawn.size == (2 * 98 + 2, 2 * (96 + 16) + 2)
    strips = np.asarray(drawn.convert("L"))[98:112]
    assert strips[:, :98].min() < 128 and strips[:, 99:].min() == 255
    for name in ("σκύλος", "собака", "naïve"):  # matplotlib's font has these
        assert legible(name, "(1)")[0] == name
    for name in ("\U000ffffe", "dog \U000ffffe"):  # no font has this: a page shows the name below the picture
        assert legible(name, "(1)")[0] == "(1)"
    large = named_grid(torch.zeros(1, 3, 100, 200), ["x"])
    assert large.size == (204, 118)

    class Module:
        step, device = 1, torch.device("cpu")

        def __init__(self, *keys: str) -> None:
            self.keys = lambda: dict.fromkeys(keys)
            self.pictures = lambda batch: {"samples": images}

    for keys, size in (((), grid_of(images).size), (("label",), named_grid(images, ["a", "b", ""]).size)):
        metrics = MetricLogger(tmp_path, 1, 0, 0.1)
        monitor = ValidationCallback(tmp_path, None, metrics, 0, 1, 1, classes=["a", "b"])  # type: ignore[arg-type]
        monitor.cache = [{"image": images, "label": torch.tensor([0, 1, 5])}]
        monitor._draw(SimpleNamespace(loggers=[]), Module(*keys))  # type: ignore[arg-type]
        assert Image.open(tmp_path / "images" / "step-000001-samples.png").size == size


def test_what_is_given_away_has_names(models: dict[str, Path]) -> None:
    model = load_model(str(models["label"])).model
    text = conditions(model, {"label": ["dog", "<b>|"]})
    assert "- `label`: a class, 0 to 4, or its name" in text and "| 0 | dog |" in text and "&lt;b&gt;\\|" in text
    assert "its name" not in conditions(model, {})
    config = {"paths": {"images": "flowers"}, "data": {"root": "flowers"}, "classes": {"label": ["flowers", "a/b"]}}
    published = published_config(config, "x")
    assert published["classes"] == {"label": ["flowers", "a/b"]} and published["data"]["root"] == "path/to/root"
    assert published_config(config, "x", refer=True)["classes"] == {"label": ["flowers", "a/b"]}


def test_names_from_the_data_are_no_change_of_the_config() -> None:
    base = {"seed": 1}
    assert changed(base, {"seed": 2, "classes": {"label": ["a"]}}) == [("seed", "1", "2")]
    assert changed(base | {"classes": {"label": ["b"]}}, {"seed": 1, "classes": {"label": ["a"]}})[0][0] == "classes.label"
