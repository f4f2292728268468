"""The sampling script's flags, right and wrong, on a model trained for a moment."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import Programs

from ldm.cli import Parser
from ldm.config import allow_environment
from ldm.config.interpolation import resolve

QUIET = ["trainer.params.images_every=0", "trainer.params.validate_every=0", "trainer.params.accelerator=cpu"]


def train(programs: Programs, config: str, logs: Path, *overrides: str) -> Path:
    name = config.split("/")[-1]
    done = programs.run(["main.py", "-b", f"configs/{config}.yaml", "-t", "-l", logs, *QUIET, *overrides])
    assert done.returncode == 0, done.stderr
    (run,) = (p for p in logs.iterdir() if p.name.endswith(f"_{name}"))
    return run


@pytest.fixture(scope="module")
def digits(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("digits")
    first = train(programs, "demo/digits-first-stage", logs, "trainer.params.steps=2")
    return train(programs, "demo/digits", logs, "trainer.params.steps=2", f"paths.first_stage={first}")


@pytest.fixture(scope="module")
def text(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("text")
    first = train(programs, "demo/text-first-stage", logs, "trainer.params.steps=2")
    return train(programs, "demo/text", logs, "trainer.params.steps=2", f"paths.first_stage={first}")


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), dtype=np.int16)


def test_a_set_does_not_depend_on_the_batch_and_knows_its_settings(digits: Path, script, tmp_path: Path) -> None:
    for batch in (2, 5):
        done = script(
            "scripts/sample.py",
            digits,
            "--n",
            5,
            "--steps",
            3,
            "--batch",
            batch,
            "--classes",
            "7,1-2",
            "--scale",
            2,
            "--outdir",
            tmp_path / str(batch),
        )
        assert done.returncode == 0, done.stderr
    names = sorted(p.name for p in (tmp_path / "2").iterdir())
    assert names == [".lock", *(f"{i:05d}.png" for i in range(5)), "grid.png", "set.json"]
    for i in range(5):
        assert abs(pixels(tmp_path / "2" / f"{i:05d}.png") - pixels(tmp_path / "5" / f"{i:05d}.png")).max() <= 1
    settings = json.loads(Image.open(tmp_path / "2" / "00003.png").text["ldm"])
    assert settings["label"] == 7 and settings["steps"] == 3 and settings["scale"] == 2.0 and len(settings["sha256"]) == 64


@pytest.mark.parametrize(
    "more",
    [
        ["--sampler", "ddpm"],
        ["--sampler", "unipc"],
        ["--plms"],
        ["--eta", "1"],
        ["--ddim_steps", "2", "--n_samples", "1"],
        ["--precision", "bf16"],
        ["--H", "32", "--W", "64"],
    ],
)
def test_other_right_flags(digits: Path, script, tmp_path: Path, more: list[str]) -> None:
    done = script("scripts/sample.py", digits, "--n", 2, "--steps", 2, "--outdir", tmp_path, *more)
    assert done.returncode == 0, done.stderr
    if "--W" in more:
        assert Image.open(tmp_path / "00000.png").size == (64, 32)


@pytest.mark.parametrize(
    "more,code,message",
    [
        (["--sampler", "eulr"], 2, "sampler 'eulr' is unknown; there are ddpm, ddim, plms, euler, heun"),
        (["--steps", "0"], 2, "at least 1"),
        (["--steps", "1001"], 2, "between 1 and 1000"),
        (["--eta", "-1"], 2, "eta must be a number of at least 0"),
        (["--n", "0"], 2, "argument --n/--n_samples: 0: expected at least 1"),
        (["--batch", "0"], 2, "argument --batch: 0: expected at least 1"),
        (["--classes", "10"], 2, "classes 0 to 9"),
        (["--classes", "one"], 2, "expected numbers like"),
        (["--prompts", "a red circle"], 2, "this model reads label, not captions"),
        (["--device", "cuda:99"], 2, "device 'cuda:99' cannot be used"),
        (["--precision", "fp8"], 2, "precision 'fp8' is unknown"),
        (["--height", "30"], 2, "not a multiple"),
        (["--height", "36"], 2, "not a multiple of 8, which this model needs"),
        (["--height", "0"], 2, "expected at least 1"),
        (["--classes", "\u00b2"], 2, "expected numbers like"),
        (["--device", "meta"], 2, "device 'meta' cannot be used"),
        (["--first-stage", "nowhere"], 3, "nowhere"),
        (["--frobnicate"], 2, "unrecognized arguments"),
    ],
)
def test_wrong_flags_are_one_clear_line(digits: Path, script, tmp_path: Path, more: list[str], code: int, message: str) -> None:
    done = script("scripts/sample.py", digits, "--outdir", tmp_path, *more)
    assert done.returncode == code and message in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in Path("scripts").glob("*.py")))
def test_an_unknown_flag_is_one_line(script, name: str) -> None:
    done = script(f"scripts/{name}", "--frobnicate")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1, done.stderr


def test_an_outdir_that_is_a_file(digits: Path, script, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = script("scripts/sample.py", digits, "--n", 1, "--steps", 1, "--outdir", tmp_path / "file")
    assert done.returncode == 2 and "file" in done.stderr and "Traceback" not in done.stderr


def test_models_that_are_none(script, tmp_path: Path, digits: Path) -> None:
    config = json.loads(json.dumps(str(digits)))
    first = next(p for p in Path(config).parent.iterdir() if p.name.endswith("first-stage"))
    (tmp_path / "half.safetensors").write_bytes(next((digits / "checkpoints").glob("*.safetensors")).read_bytes()[:5000])
    for model, code, message in (
        ("nowhere", 3, "no such file"),
        ("configs", 3, "expected a run folder"),
        ("README.md", 2, "not a complete safetensors"),
        (tmp_path / "half.safetensors", 2, "half.safetensors: not a complete"),
        (first, 2, "contains a first stage, expected"),
    ):
        done = script("scripts/sample.py", model, "--outdir", tmp_path)
        assert done.returncode == code and message in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_prompts(text: Path, script, tmp_path: Path) -> None:
    prompt = "a red circle on the left and a small blue square at the top"
    done = script("scripts/sample.py", text, "--prompts", prompt, "a cyan cross on the right", "--n", 3, "--steps", 2, "--outdir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(Image.open(tmp_path / "00002.png").text["ldm"])["caption"] == prompt
    for words, message in (
        (["--prompts", "a pink elephant"], "vocabulary: elephant, pink"),
        ([], "give --prompt "),
        (["--classes", "1"], "not class labels"),
    ):
        done = script("scripts/sample.py", text, *words, "--outdir", tmp_path)
        assert done.returncode == 2 and message in done.stderr, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
@pytest.mark.parametrize("words", [["main.py", "-b", "configs/demo/digits.yaml", "--print-config"], ["scripts/check_all.py"]])
def test_what_is_printed_and_finds_no_room_is_told(words: list[str], programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("model: 1\n")
    more = [str(tmp_path / "wrong.yaml")] if words[0].startswith("scripts") else []
    with open("/dev/full", "wb") as full, open(tmp_path / "said", "wb") as said:
        code = programs.start([*words, *more], stdout=full, stderr=said).wait(240)
    told = (tmp_path / "said").read_text()
    assert code == 2 and "error: " in told and "No space left on device" in told, told
    assert "Traceback" not in told and "Exception ignored" not in told


@pytest.mark.parametrize("method", ["parse_args", "parse_intermixed_args"])
def test_flags_mean_the_same_whichever_way_a_script_reads_them(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts that take key=value words read them between flags as well."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("PLACE", "here")
    p = Parser("x")
    p.add_argument("images", nargs="*")
    p.add_argument("--out")
    p.add_argument("--file", type=Path)
    p.add_argument("--prompt", metavar="TEXT")
    try:
        flags = getattr(p, method)(["$HOME/a", "b", "--out=~/c", "--file=~/d", "--prompt=~", "--allow-env", "PLACE"])
        assert flags.images == ["/home/me/a", "b"] and flags.out == "/home/me/c" and flags.file == Path("/home/me/d")
        assert flags.prompt == "~" and resolve({"name": "${oc.env:PLACE}"}, {}) == {"name": "here"}
    finally:
        allow_environment([])
