"""Every flag of main.py, right and wrong; each mistake is one clear message with its exit code."""

import json
from pathlib import Path

import pytest
import yaml

import main as program

DIGITS = "configs/demo/digits-first-stage.yaml"


def call(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """main() in this process: exit code, stdout, stderr."""
    try:
        code = program.main(list(words))
    except SystemExit as error:
        code = int(error.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(autouse=True)
def in_root(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.chdir(root)


def test_help_shows_examples(capsys) -> None:
    code, out, _ = call("--help", capsys=capsys)
    assert code == 0 and "examples" in out and "--resume logs/" in out and "exit codes" in out


@pytest.mark.parametrize(
    "words,code,message",
    [
        ([], 2, "no config: give --base"),
        (["--base", DIGITS], 2, "nothing to do: add --train"),
        (["--base", "nowhere.yaml", "--train"], 2, "config nowhere.yaml: no such file"),
        (["--base", DIGITS, "--tarin"], 2, "unrecognized arguments: --tarin"),
        (["--base", DIGITS, "--train", "oops"], 2, "'oops': expected key.sub=value"),
        (["--base", DIGITS, "--train", "trainer.params.stepz=3"], 2, "did you mean 'steps'"),
        (["--base", DIGITS, "--train", "trainer.params.steps=0"], 2, "steps must be at least 1"),
        (["--base", DIGITS, "--train", "trainer.params.accelerator=gpuu"], 2, "accelerator 'gpuu' is unknown"),
        (["--base", DIGITS, "--train", "data.params.batch_size=0"], 2, "batch_size"),
        (["--base", DIGITS, "--train", "--seed", "x"], 2, "invalid integer value"),
        (["--resume", "nowhere"], 3, "nowhere"),
        (["--base", "configs/demo/digits.yaml", "--train"], 3, "first stage's checkpoint is not set"),
        (["--base", "configs/demo/digits.yaml", "--train", "paths.first_stage=configs"], 3, "expected a run folder or a weights file"),
        (["--base", "configs/demo/digits.yaml", "--train", "paths.first_stage=README.md"], 2, "README.md: not a complete safetensors file"),
        (["--resume", "README.md"], 2, "README.md: not a complete checkpoint"),
        (["--base", DIGITS, "--train", "model.target=os.system"], 2, "not in an allowed package"),
        (["--base", DIGITS, "--train", "--seed", "-1"], 2, "expected 0 to"),
        (["--base", DIGITS, "--train", "--json", "x.json"], 2, "--json goes with --check"),
        (["--base", DIGITS, "--train", "data.params.train.params.size=30"], 2, "not a multiple of the first stage's factor"),
        (["--base", DIGITS, "--train", "data.params.train.params.size=0"], 2, "data.params.train"),
        (["--base", DIGITS, "--train", "trainer.params.devices=0"], 2, "devices: expected a number of at least 1"),
        (["--base", DIGITS, "--train", "trainer.params.precision=foo"], 2, "precision 'foo' is unknown"),
        (["--base", DIGITS, "--train", "trainer.params.strategy=foo"], 2, "strategy 'foo' is unknown"),
        (["--base", DIGITS, "--train", "trainer.params.lightning.foo=1"], 2, "takes no 'foo'"),
        (["--base", DIGITS, "--train", "trainer.params.lightning.devices=1"], 2, "'devices' is set by this project: use the same key"),
        (["--base", DIGITS, "--train", "sampling.sampler=dimm"], 2, "sampler 'dimm' is unknown"),
        (["--base", DIGITS, "--train", "sampling.eta=-3"], 2, "eta must be a number of at least 0"),
        (["--base", DIGITS, "--train", "--gpus", "0,1"], 2, "--gpus 0,1: there is no GPU here"),
        (["--base", DIGITS, "--check", "--gpus", "1"], 2, "--gpus 1: there is no GPU here"),
        (["--base", DIGITS, "--train", "name=${oc.env:HOME}"], 2, "--allow-env HOME"),
        (["--base", DIGITS, "--train", "paths.images=x"], 2, "nothing in the config reads it"),
        (["--base", DIGITS, "--train", "data.batch_size=4"], 2, "did you mean data.params.batch_size?"),
        (["--base", DIGITS, "--train", "callbacks.x=5"], 2, "callbacks.x: expected a node that builds a Callback"),
        (["--base", DIGITS, "--train", "--trust", "nosuchpkg", "model.target=nosuchpkg.X"], 2, "cannot be imported"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(words: list[str], code: int, message: str, capsys, tmp_path: Path) -> None:
    place = [] if "--resume" in words else ["--logdir", str(tmp_path / "logs")]  # a resumed run keeps its folder
    got, _, err = call(*words, *place, capsys=capsys)
    assert got == code and message in err and "Traceback" not in err
    assert not (tmp_path / "logs").exists()


def test_print_config_is_the_merged_config(capsys) -> None:
    code, out, _ = call("-b", DIGITS, "--print-config", "-s", "5", "trainer.params.steps=7", capsys=capsys)
    content = yaml.safe_load(out)
    assert code == 0 and content["trainer"]["params"]["steps"] == 7 and content["seed"] == 5
    assert content["model"]["params"]["scheduler"]["params"]["total"] == 7  # interpolated
    assert "base" not in content


def test_gpus_is_an_alias(capsys) -> None:
    code, out, err = call("-b", DIGITS, "--print-config", "--gpus", "0,1", capsys=capsys)
    assert code == 0 and "--gpus is an alias" in err and "- 0\n" in out and "- 1\n" in out


def test_paths_of_flags_are_never_parsed(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for typed, expected in (("logs/run #2", "logs/run #2"), ("2024_01", "2024_01"), ("a${b}", "a${b}"), ("~/x", "/home/me/x")):
        code, out, err = call("-b", "configs/demo/digits.yaml", "--print-config", f"--first-stage={typed}", capsys=capsys)
        assert code == 0, err
        assert yaml.safe_load(out)["model"]["params"]["model"]["params"]["first_stage"]["params"]["checkpoint"] == expected
    code, _, err = call("--base=~/c.yaml", "--check", capsys=capsys)
    assert code == 2 and "config /home/me/c.yaml: no such file" in err


def test_check_ready(capsys, tmp_path: Path) -> None:
    code, out, _ = call("-b", DIGITS, "--check", "--json", str(tmp_path / "r.json"), capsys=capsys)
    report = json.loads((tmp_path / "r.json").read_text())
    assert code == 0 == report["exit_code"] and out.rstrip().endswith("ready")
    assert report["parameters"]["autoencoder"] > 10**5 and report["learning_rate"]["lr"] == 0.03
    assert "nothing scales them" in report["learning_rate"]["formula"] and report["learning_rate"]["batch_size"] == 32
    assert "float32 (32, 1, 32, 32)" in report["batch"]["image"] and report["step"]["loss"] > 0


@pytest.mark.parametrize(
    "override,code,message",
    [
        ("data.params.train.params.size=30", 2, "not a multiple of the first stage's factor"),
        ("model.params.autoencoder.params.image_channels=3", 2, "images have 1 channels, the first stage takes 3"),
        ("model.params.loss.params.perceptual={target: ldm.first_stage.LPIPS, params: {vgg16: nowhere.pth}}", 3, "put them at nowhere.pth"),
        ("data.params.train={target: ldm.data.ImageFolder, params: {root: nowhere, size: 32, channels: 1}}", 3, "image folder 'nowhere'"),
        ("model.params.autoencoder.params.widht=3", 2, "did you mean 'width'"),
        ("trainer.params.devices=5", 2, "is not divisible by 5 devices"),
        ("model.params.optimizer.params.lr=-1", 2, "model.params.optimizer"),
        ("model.params.optimizer={target: torch.optim.Adam, partial: true, params: {lr: -1}}", 2, "Invalid learning rate"),
        ("model.params.optimizer={target: torch.nn.Linear, partial: true}", 2, "model.params.optimizer"),
        ("model.params.scheduler={target: ldm.training.warmup_linear, partial: true}", 2, "warmup"),
        ("model.params.autoencoder.params.width_mult=[]", 2, "KLAutoencoder"),
        ("model.params.autoencoder.params.stem=0", 2, "model.params.autoencoder"),
        ("callbacks.x.target=torch.nn.Identity", 2, "expected a node that builds a Callback"),
        ("sampling.stepz=3", 2, "did you mean 'steps'"),
        ("sampling.sampler=eulr", 2, "sampler 'eulr' is unknown"),
    ],
)
def test_check_names_what_is_wrong_or_missing(override: str, code: int, message: str, capsys) -> None:
    got, out, _ = call("-b", DIGITS, "--check", "trainer.params.accelerator=cpu", override, capsys=capsys)
    assert got == code and message in out


@pytest.mark.parametrize(
    "override,code,message",
    [
        ("seed=1", 3, "the trained first stage"),
        ("model.params.model.params.network.params.in_channels=5", 2, "in_channels is 5, but the first stage gives 4"),
        ("model.params.model.params.conditioner.params.num_classes=5", 2, "ClassEmbedding knows 0 to 4"),
        ("data.params.train.params.size=28", 2, "multiple of"),
        ("data.params.train={target: ldm.data.Scenes, params: {}}", 2, "3 channels"),
        ("model.params.model.params.process.params.T=10", 2, "sampling steps must be between 1 and 10, got 20"),
    ],
)
def test_check_holds_the_batch_against_stage_two(override: str, code: int, message: str, capsys) -> None:
    got, out, _ = call("-b", "configs/demo/digits.yaml", "--check", override, capsys=capsys)
    assert got == code and message in out, out
    if code == 3:
        assert "one step at shrunken width" in out and "network" in out  # the rest was checked all the same


def test_check_reads_words_the_tokenizer_lacks(capsys) -> None:
    words = "model.params.model.params.conditioner.params.tokenizer.params.words=[a, red]"
    got, out, _ = call("-b", "configs/demo/text.yaml", "--check", words, capsys=capsys)
    assert got == 3 and "warnings:" in out and "not in the tokenizer's vocabulary" in out  # the first stage is missing, nothing is wrong


def test_a_real_config_without_its_data_is_ready_but_for_the_files(capsys) -> None:
    got, out, _ = call("-b", "configs/first_stage/vq-f4.yaml", "--check", capsys=capsys)
    assert got == 3 and "55.32 M" in out and "data/openimages" in out and "VGG16" in out and "one step at shrunken width" in out
