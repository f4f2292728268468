"""What is printed can be typed: the right script with the right flags for a model, whatever the folder is called."""

import json
import os
import shlex
import subprocess
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_task_scripts import CONDITIONERS, config_of, made

from ldm.cli.next_command import sampling_command
from ldm.cli.summary import final_message, resume_command
from ldm.config import AllowedTargets, Config, literal, load, validate
from ldm.system.shell import command, quoted
from ldm.system.weights import save_weights
from ldm.training import AutoencoderTraining
from paper.commands import Command

NAMES = ["my logs [1]", "it's", "a$HOME`x`", 'quo"te', "-dash", "a;b&c|d", "tab\there", "new\nline", "esc\x1b[31m", "grün", "#x", "~", "*?"]


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell reads it")
@pytest.mark.parametrize("name", NAMES)
def test_a_shell_reads_the_words_that_were_meant(name: str) -> None:
    line = quoted("python", "main.py", name, f"paths.first_stage=/x/{name}")
    assert line.isprintable()
    script = "import sys, json; print(json.dumps(sys.argv[1:]))"
    run = subprocess.run(["bash", "-c", f"python3 -c {shlex.quote(script)} {line}"], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == ["python", "main.py", name, f"paths.first_stage=/x/{name}"]
    assert Command("sample", ("scripts/sample.py", name)).text().endswith(f" scripts/sample.py {quoted(name)}")


def test_on_windows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldm.system.shell.os.name", "nt")
    assert quoted("python", "a b", "C:\\x") == 'python "a b" C:\\x'


def test_programs_are_named_as_seen_from_the_working_directory(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("main.py", "--resume", "x") == "python main.py --resume x"
    monkeypatch.chdir(root / "docs")
    assert command("main.py", "--resume", "x") == "python ../main.py --resume x"


def sample_of(name: str) -> dict[str, Any]:
    """One sample with everything that a model can read."""
    g = torch.Generator().manual_seed(0)
    everything = {
        "image": torch.rand(3, 16, 16, generator=g) * 2 - 1,
        "label": 1,
        "caption": "a red\ncircle",
        "low_res": torch.rand(3, 8, 8, generator=g) * 2 - 1,
        "mask": torch.zeros(1, 16, 16).index_fill(1, torch.arange(4, 9), 1.0),
        "segmentation": torch.randint(0, 4, (16, 16), generator=g),
        "boxes": torch.tensor([[0.1, 0.2, 0.6, 0.9]]),
        "box_labels": torch.tensor([1]),
    }
    return everything if name != "no sample" else {}


EXPECTED = {
    "unconditional": ["sample.py", "--n", "16"],
    "label": ["sample.py", "--classes", "0-3", "--n", "16"],
    "caption": ["txt2img.py", "--prompt", "a red circle"],
    "layout": ["layout2img.py", "EX/layout.json"],
    "layout_text": ["layout2img.py", "EX/layout.json", "--prompt", "a red circle"],
    "semantic": ["semantic.py", "EX/map.png"],
    "semantic_text": ["semantic.py", "EX/map.png", "--prompt", "a red circle"],
    "superres": ["superres.py", "EX/low_res.png"],
    "superres4": ["superres.py", "EX/low_res.png"],
    "inpaint": ["inpaint.py", "--indir", "EX"],
}


@pytest.mark.parametrize("name", sorted(CONDITIONERS))
def test_the_command_after_training_samples_from_the_model(
    name: str, script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    run = tmp_path / "my logs [1]" / f"it's {name}"
    config = config_of(name)
    model = made(config["model"]["params"]["model"])
    save_weights(run / "checkpoints" / "step-1.safetensors", model.state_dict(), {"config": config, "step": 1})
    line = sampling_command(model, run, sample_of(name), ["--trust", "torchvision"])
    assert line is not None
    python, program, folder, *words = shlex.split(line)
    assert (python, folder) == ("python", str(run)) and words[-2:] == ["--trust", "torchvision"]
    expected = [word.replace("EX", str(run / "examples")) for word in EXPECTED[name]]
    assert [Path(program).name, *words[: words.index("--outdir")]] == expected and program == f"scripts/{expected[0]}"
    monkeypatch.chdir(tmp_path)  # where outputs/ goes
    done = script(program, folder, *words, "--steps", 1, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "outputs" / run.name).rglob("*.png"))


def test_examples_are_what_the_model_was_trained_with(tmp_path: Path) -> None:
    for name, file in (("superres", "low_res.png"), ("semantic", "map.png"), ("inpaint", "image_mask.png")):
        sampling_command(made(config_of(name)["model"]["params"]["model"]), tmp_path / name, sample_of(name))
        found = np.asarray(Image.open(tmp_path / name / "examples" / file))
        sample = sample_of(name)
        right = {
            "superres": ((sample["low_res"] + 1) * 127.5).round().permute(1, 2, 0),
            "semantic": sample["segmentation"],
            "inpaint": sample["mask"][0] * 255,
        }[name]
        assert np.array_equal(found, right.numpy().astype(np.uint8))


def test_without_a_sample_or_a_script_it_still_says_something_true(tmp_path: Path) -> None:
    def line(name: str) -> str | None:
        return sampling_command(made(config_of(name)["model"]["params"]["model"]), tmp_path, {})

    assert shlex.split(line("caption") or "")[3:5] == ["--prompt", "a"]  # a word that it knows
    assert "IMAGE.png" in (line("superres") or "") and not (tmp_path / "examples").exists()
    given = SimpleNamespace(conditioner=SimpleNamespace(reads=("low_res", "label")))
    assert sampling_command(given, tmp_path, {}) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "base,following",
    [
        ("configs/demo/digits-first-stage.yaml", "configs/demo/digits.yaml"),
        ("configs/own/first-stage.yaml", "configs/own/ldm.yaml"),
        ("configs/demo/text-first-stage.yaml", "configs/demo/text.yaml"),
        ("configs/demo/pictures-first-stage.yaml", None),
        ("configs/first_stage/vq-f4.yaml", None),
        ("TMP/tiny.yaml", "configs/own/ldm.yaml"),
        ("TMP/nothing.yaml", "configs/own/ldm.yaml"),
    ],
)
def test_after_stage_one_comes_the_config_that_is_made_for_it(base: str, following: str | None, tmp_path: Path, root: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(f"base: [{root}/configs/own/first-stage.yaml]\n")
    (tmp_path / "nothing.yaml").write_text("name: x\n")
    base = base.replace("TMP", str(tmp_path))
    if not Path(base).is_file():
        pytest.skip(f"there is no {base}")
    flags = Namespace(base=[base], logdir="my logs", trust=["here"], allow_env=[])
    config = Config({"paths": {"images": "/my photos"}})
    module = AutoencoderTraining.__new__(AutoencoderTraining)
    last = final_message(Path("my logs/x [1]"), module, None, config, flags).splitlines()[-1]  # type: ignore[arg-type]
    words = shlex.split(last)
    assert words[:3] == ["python", "main.py", "--base"] and (following is None or words[3] == following)
    assert words[4:9] == ["--train", "--logdir", "my logs", "--trust", "here"] and words[9] == "paths.first_stage=my logs/x [1]"
    assert (words[10:] == ["paths.images=/my photos"]) == ("own" in words[3])


@pytest.mark.parametrize(
    "changed,expected",
    [
        ([], []),
        (["model.params.autoencoder.params.width=32"], ["model.params.model.params.first_stage.params.model=null"]),
        (
            ["model.params.autoencoder.params.channels=3", "data.params.train.params.size=32", "data.params.batch_size=2"],
            [
                "data.params.train.params.size=32",
                "model.params.model.params.first_stage.params.model=null",
                "model.params.model.params.network.params.in_channels=3",
                "model.params.model.params.network.params.out_channels=3",
            ],
        ),
    ],
)
def test_what_was_changed_in_stage_one_is_known_to_stage_two(changed: list[str], expected: list[str]) -> None:
    flags = Namespace(base=["configs/own/first-stage.yaml"], logdir="logs", trust=[], allow_env=[])
    config = load(flags.base, changed)
    module = AutoencoderTraining.__new__(AutoencoderTraining)
    words = shlex.split(final_message(Path("logs/x"), module, None, config, flags, changed).splitlines()[-1])  # type: ignore[arg-type]
    assert words[2:] == ["--base", "configs/own/ldm.yaml", "--train", "paths.first_stage=logs/x", *expected]
    load([words[3]], words[5:], trust=AllowedTargets())


@pytest.mark.parametrize(
    "base,words",
    [
        ("configs/demo/digits-first-stage.yaml", []),
        (
            "configs/own/first-stage.yaml",
            [
                *("paths.images=/my ph${o}tos", "data.params.train.params.size=32", "data.params.train.params.channels=1"),
                *("data.params.validation.params.crop=random", "model.params.autoencoder.params.image_channels=1"),
            ],
        ),
    ],
)
def test_a_resumed_run_has_the_same_next_command(base: str, words: list[str], tmp_path: Path) -> None:
    words = [literal(word) for word in words]
    folder = tmp_path / "my logs" / f"2026-01-01T00-00-00_{Path(base).stem}"
    folder.mkdir(parents=True)
    (folder / "base.yaml").write_text(load([base]).to_yaml())
    module, config = AutoencoderTraining.__new__(AutoencoderTraining), load([base], words)
    assert not validate(config, AllowedTargets())  # as before training, which names default classes in it
    said = []
    for flags, typed in (({"base": [base], "logdir": str(folder.parent)}, words), ({"base": [], "logdir": "logs"}, [])):
        given = Namespace(**flags, trust=[], allow_env=[])
        said.append(sorted(shlex.split(final_message(folder, module, None, config, given, typed).splitlines()[-1])))  # type: ignore[arg-type]
    assert said[0] == said[1] and sum(word in words for word in said[0]) == max(0, len(words) - 1)  # the channels come with the first stage


def test_a_run_that_was_stopped_goes_on_with_what_it_needs() -> None:
    flags = Namespace(trust=["a", "b"], allow_env=["HOME"])
    line = resume_command(Path("my logs/x"), flags)
    assert shlex.split(line)[1:] == ["main.py", "--resume", "my logs/x", "--trust", "a", "--trust", "b", "--allow-env", "HOME"]
    assert shlex.split(resume_command(Path("~/x"), flags))[3] == "./~/x"  # a folder of that name


def test_no_command_is_put_together_elsewhere(root: Path) -> None:
    """Quoting lives in ldm/system/shell.py; texts of --help and docs have fixed words."""
    for path in [*(root / "ldm").rglob("*.py"), root / "main.py"]:
        text = path.read_text(encoding="utf-8")
        found = [line for line in text.splitlines() if "python main.py" in line or "python scripts/" in line]
        assert not [line for line in found if "{" in line], path
        assert "shlex" not in text or path.name == "shell.py", path


def test_a_caption_that_looks_like_a_flag_can_be_typed(tmp_path: Path) -> None:
    model = made(config_of("caption")["model"]["params"]["model"])
    model.conditioner.tokenizer = SimpleNamespace(words=())  # one that knows any word
    assert "--prompt=-sale-" in shlex.split(sampling_command(model, tmp_path, {"caption": "-sale-"}) or "")
