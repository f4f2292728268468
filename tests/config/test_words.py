"""What a word of the command line becomes: the text that was typed wherever text is expected, numbers where numbers are."""

from pathlib import Path
from typing import Any

import pytest

from ldm.config import AllowedTargets, literal, load, validate
from ldm.errors import UserError
from ldm.system.shell import as_argument

CONFIG = """
model:
  target: ldm.training.AutoencoderTraining
  params:
    autoencoder: {target: ldm.first_stage.KLAutoencoder, params: {channels: 1, width: 32, width_mult: [1, 1]}}
    loss: {target: ldm.first_stage.AutoencoderLoss}
    optimizer: {target: torch.optim.AdamW, partial: true, params: {lr: 1e-3}}
data: {params: {batch_size: 4, train: {target: ldm.data.ImageFolder, params: {root: "${paths.images}", size: 16}}}}
trainer: {params: {steps: 2}}
paths: {images: photos}
"""
ROOT = "data.params.train.params.root"
LR = "model.params.optimizer.params.lr"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "c.yaml").write_text(CONFIG)
    return tmp_path / "c.yaml"


def at(data: Any, path: str) -> Any:
    for key in path.split("."):
        data = data[int(key) if isinstance(data, list) else key]
    return data


TEXTS = """/data/photos #1|/data/#1|#|2024_01|0123|2024-01-02|1e3|1:30|C:\\Users\\me|C:/a: b/c|a=b/epoch=9-step=8.ckpt|@home|%d/x|[new]/x
[a, b]|*photos|{a}/b|no|on|true|null|.inf|'x y'|"x"|x, y|!x|`x`|- x|? x|& x|x|photos/|写真/é|1|-1|x\ty| x |=|a b"""


@pytest.mark.parametrize("typed", TEXTS.replace("\n", "|").split("|"))
def test_text_is_the_word_that_was_typed(file: Path, typed: str) -> None:
    for key in ("paths.images", ROOT):
        assert at(load([file], [f"{key}={typed}"]).data, ROOT) == typed
    assert load([file], [f"name={typed}"]).data["name"] == typed


@pytest.mark.parametrize("typed", ["~/x", "$HOME/x", "${HOME}/x"])
def test_a_leading_home_is_written_out(file: Path, typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert at(load([file], [f"paths.images={typed}"]).data, ROOT) == "/home/me/x"
    assert at(load([file], ["paths.images=x/$HOME"]).data, ROOT) == "x/$HOME"  # only in front


@pytest.mark.parametrize(
    "key,typed,expected",
    [
        (LR, "1e-4", 1e-4),
        (LR, ".1", 0.1),
        (LR, "1", 1),
        (LR, "1e4", 1e4),
        ("data.params.batch_size", "100_000", 100000),
        ("data.params.max_per_device", "null", None),
        ("data.params.validation", "null", None),
        ("trainer.params.devices", "[0, 1]", [0, 1]),
        ("trainer.params.devices", "0,1", "0,1"),
        ("trainer.params.devices", "2", 2),
        ("trainer.params.channels_last", "false", False),
        ("trainer.params.channels_last", "auto", "auto"),
        ("trainer.params.lightning.detect_anomaly", "true", True),
        ("model.params.autoencoder.params.width_mult", "[1, 2]", [1, 2]),
        ("model.params.autoencoder.params.width_mult.1", "4", 4),
        ("sampling.scale", "3", 3),
        ("sampling.sampler", "plms", "plms"),
        ("callbacks.x", "{target: pytorch_lightning.callbacks.Timer, params: {duration: 00:01:00:00}}", "00:01:00:00"),
        ("data.params.train", "{target: ldm.data.ImageFolder, params: {root: 2024_01, size: 16}}", "2024_01"),
    ],
)
def test_a_value_is_what_its_parameter_takes(file: Path, key: str, typed: str, expected: Any) -> None:
    value = at(load([file], [f"{key}={typed}"]).data, key)
    for inner in ("params", "duration") if key == "callbacks.x" else ("params", "root") if key == "data.params.train" else ():
        value = value[inner]
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    "word,message",
    [
        (f"{LR}=1,5e-4", "did you mean 1.5e-4?"),
        (f"{LR}=0,001", "did you mean 0.001?"),
        (f"{LR}=1_.5", "did you mean 1.5?"),
        ("data.params.batch_size=1,000", "did you mean 1000?"),
        (f"{LR}=50%", "did you mean 0.5?"),
        (f"data.params.batch_size={'9' * 5000}", "expected an integer"),
        ("data.params.batch_size=08", "expected an integer, got '08'; did you mean 8?"),
        ("data.params.batch_size=010", "did you mean 10?"),
        ("data.params.batch_size=1_6", "did you mean 16?"),
        ("data.params.batch_size=1e1", "did you mean 10?"),
        ("data.params.batch_size=1:30", "expected an integer, got '1:30'"),
        ("data.params.batch_size=8 #x", "expected an integer, got '8 #x'"),
        ("data.batch_size=4", "did you mean data.params.batch_size?"),
        ("trainer.steps=4", "did you mean trainer.params.steps?"),
        ("model.params.autoencoder.params.width_mult=[1, 2] #x", "expected a list"),
    ],
)
def test_what_does_not_fit_gets_advice(file: Path, word: str, message: str) -> None:
    found = [str(problem) for problem in validate(load([file], [word]), AllowedTargets())]
    assert len(found) == 1 and message in found[0], found


@pytest.mark.parametrize(
    "word,message",
    [
        ("paths.imagse=x", "paths.imagse: nothing in the config reads it; did you mean 'images'? (it reads paths.images)"),
        ("paths.images=", "expected a path"),
        ("data.params.train={target: x", "override"),
        ("data.params.train=[a #b]", "quotes"),
        ("paths.images=a${b}", "'b'"),
    ],
)
def test_what_cannot_be_read_is_refused(file: Path, word: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load([file], [word])
    assert message in str(caught.value)


def test_text_that_yaml_takes_for_a_number_is_asked_for_in_quotes(file: Path) -> None:
    file.write_text(CONFIG.replace("images: photos", "images: 2024_01"))
    assert any("put it in quotes" in str(problem) for problem in validate(load([file]), AllowedTargets()))


@pytest.mark.parametrize("path", ["a${b}", "${paths.images}/x", "a${b", "a\\${b}", "a$b{c}", "$HOME", "it's #1"])
def test_a_path_that_is_passed_on_refers_to_nothing(file: Path, path: str) -> None:
    assert at(load([file], [f"paths.images={literal(as_argument(path))}"]).data, ROOT) in (path, f"./{path}")


@pytest.mark.parametrize("word", ["data=[&a [*a]]", "data.params.train={[a]: b}", "data.params.train={? {a: b} : c}"])
def test_values_that_nobody_foresaw_are_told(file: Path, word: str) -> None:
    with pytest.raises(UserError, match="the config cannot be read"):
        load([file], [word])
