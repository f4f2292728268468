"""The sampling script's flags, right and wrong, on a model trained for a moment; and the README's commands."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

QUIET = ["trainer.params.images_every=0", "trainer.params.validate_every=0", "trainer.params.accelerator=cpu"]


def train(config: str, logs: Path, *overrides: str) -> Path:
    name = config.split("/")[-1]
    command = [sys.executable, "main.py", "-b", f"configs/{config}.yaml", "-t", "-l", str(logs), *QUIET, *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (run,) = (p for p in logs.iterdir() if p.name.endswith(f"_{name}"))
    return run


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("digits")
    first = train("demo/digits-first-stage", logs, "trainer.params.steps=2")
    return train("demo/digits", logs, "trainer.params.steps=2", f"paths.first_stage={first}")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("text")
    first = train("demo/text-first-stage", logs, "trainer.params.steps=2")
    return train("demo/text", logs, "trainer.params.steps=2", f"paths.first_stage={first}")


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
    assert names == [*(f"{i:05d}.png" for i in range(5)), "grid.png"]
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
        (["--sampler", "eulr"], 2, "sampler 'eulr' is unknown; there are ddpm, ddim, plms, heun"),
        (["--steps", "0"], 2, "at least 1"),
        (["--steps", "1001"], 2, "between 1 and 1000"),
        (["--eta", "-1"], 2, "eta must not be negative"),
        (["--n", "0"], 2, "--n 0"),
        (["--batch", "0"], 2, "--batch 0"),
        (["--classes", "10"], 2, "classes 0 to 9"),
        (["--classes", "one"], 2, "expected numbers like"),
        (["--prompts", "a red circle"], 2, "this model reads label, not captions"),
        (["--device", "cuda:99"], 2, "device 'cuda:99' cannot be used"),
        (["--precision", "fp8"], 2, "precision 'fp8' is unknown"),
        (["--height", "30"], 2, "no multiple"),
        (["--height", "36"], 2, "no multiple of the 8 that this model needs"),
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
        ("README.md", 2, "not a whole safetensors"),
        (tmp_path / "half.safetensors", 2, "half.safetensors: not a whole"),
        (first, 2, "holds a first stage, expected"),
    ):
        done = script("scripts/sample.py", model, "--outdir", tmp_path)
        assert done.returncode == code and message in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_prompts(text: Path, script, tmp_path: Path) -> None:
    prompt = "a red circle on the left and a small blue square at the top"
    done = script("scripts/sample.py", text, "--prompts", prompt, "a cyan cross on the right", "--n", 3, "--steps", 2, "--outdir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(Image.open(tmp_path / "00002.png").text["ldm"])["caption"] == prompt
    for words, message in (
        (["--prompts", "a pink elephant"], "lacks elephant, pink"),
        ([], "give --prompts"),
        (["--classes", "1"], "not class labels"),
    ):
        done = script("scripts/sample.py", text, *words, "--outdir", tmp_path)
        assert done.returncode == 2 and message in done.stderr, done.stderr


def test_the_demo_script_end_to_end_in_small(run, tmp_path: Path) -> None:
    small = ["trainer.params.steps=3", "trainer.params.images_every=0", "trainer.params.validate_every=0"]
    for demo, keys in (
        ("digits", ["accuracy", "accuracy_real", "near_real_share"]),
        (
            "text",
            [
                "one_object_right",
                "one_object_right_per_seed",
                "two_objects_right",
                "two_objects_right_per_seed",
                "checker_real",
                "checker_reconstructions",
            ],
        ),
    ):
        done = run("scripts/demo.py", demo, "--outdir", tmp_path / demo, "--samples", 40, *small)
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / demo / "summary.json").read_text())
        assert {"training_seconds", *keys} <= summary.keys() and summary["training_seconds"] > 0
        assert (tmp_path / demo / "samples.png").is_file()
        page = (tmp_path / demo / "index.html").read_text()
        assert "data:image/png;base64," in page and "http" not in page.replace("http-equiv", "")


def readme_commands(root: Path) -> list[str]:
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", (root / "README.md").read_text(), flags=re.S)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_the_readmes_commands_exist_and_the_short_ones_run(root: Path, run) -> None:
    commands = readme_commands(root)
    assert {"make demo", "make demo-text", "make test"} <= set(commands)
    makefile = (root / "Makefile").read_text()
    ran = 0
    for command in commands:
        words = shlex.split(command)
        if words[0] == "make":
            assert re.search(rf"^{words[-1]}:", makefile, flags=re.M), command
        elif words[0] == "python":
            assert (root / words[1]).is_file(), command
            if "models/ldm/" in command:  # a released model, see the test below
                continue
            for path in re.findall(r"configs/\S+\.yaml", command):
                assert list(root.glob(path)), command
            if "--check" in words or "--print-config" in words or "--help" in words:
                done = run(*words[1:])
                assert done.returncode in (0, 3), f"{command}\n{done.stderr}"
                ran += 1
    assert ran >= 2


def test_the_readmes_commands_for_released_models_run(root: Path, run, tmp_path: Path) -> None:
    """As written, on a recorded model that lies where the released one would."""
    import yaml
    from safetensors.torch import load_file

    name = root / "tests" / "fixtures" / "compvis" / "ldm_uncond_kl_std"
    folder = tmp_path / "models" / "ldm" / "celeba256"
    folder.mkdir(parents=True)
    tree = json.loads(name.with_suffix(".json").read_text())["params"]["model"]
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": tree}))
    state = {key[3:]: value.float() for key, value in load_file(name.with_suffix(".safetensors")).items() if key.startswith("sd.")}
    torch.save({"state_dict": state}, folder / "model.ckpt")
    commands = [c for c in readme_commands(root) if "celeba" in c and "configs/" not in c]
    assert len(commands) == 4
    for command in commands:
        words = shlex.split(command)[1:]
        done = run(root / words[0], *words[1:], cwd=tmp_path)
        assert done.returncode == (3 if "--check" in words else 0), f"{command}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "celeba-diffusers" / "model_index.json").is_file()


def test_the_figures_of_the_readme_are_what_the_commands_print(root: Path, script) -> None:
    readme = (root / "README.md").read_text()
    for name, pattern in (
        ("parity", r"parity\.py tests/fixtures/compvis +# (.*)"),
        ("roundtrips", r"roundtrips\.py tests/fixtures/compvis +# (.*)"),
    ):
        said = re.search(pattern, readme)
        assert said is not None
        done = script(f"scripts/{name}.py", root / "tests" / "fixtures" / "compvis")
        assert done.returncode == 0, done.stdout
        assert done.stdout.strip().splitlines()[-1] == said[1].strip()


def test_check_all_counts_what_it_found(root: Path, script, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("model: {target: ldm.networks.Unet}\n")
    demo = root / "configs" / "demo" / "digits-first-stage.yaml"
    done = script("scripts/check_all.py", demo, "--json", tmp_path / "found.json")
    assert done.returncode == 0 and "1 configs: 1 ready, 0 lack only files, 0 wrong" in done.stdout
    assert json.loads((tmp_path / "found.json").read_text())[str(demo)]["parameters"]["autoencoder"] > 1e5
    done = script("scripts/check_all.py", demo, tmp_path / "wrong.yaml")
    assert done.returncode == 1 and "1 wrong" in done.stdout and "did you mean 'UNet'" in done.stdout


def test_the_example_in_the_architecture_page_runs(root: Path) -> None:
    code = re.search(r"```python\n(.*?)```", (root / "docs" / "architecture.md").read_text(), flags=re.S)[1]
    names: dict = {}
    exec(code, names)
    assert names["images"].shape == (2, 3, 64, 64)


def test_readme_own_images_section_works_as_written(root: Path, run, tmp_path: Path) -> None:
    """With the photographs that scikit-image and scikit-learn ship, at a few steps and small size."""
    import skimage.data
    from sklearn.datasets import load_sample_images

    folder = tmp_path / "photos" / "nested"
    folder.mkdir(parents=True)
    shipped = {
        "astronaut": skimage.data.astronaut(),
        "coffee": skimage.data.coffee(),
        "rocket": skimage.data.rocket(),
        "cat": skimage.data.chelsea(),
    }
    shipped |= {f"sample{i}": image for i, image in enumerate(load_sample_images().images)}
    for name, image in shipped.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    section = (root / "README.md").read_text().split("## Train on your own images")[1].split("\n## ")[0]
    commands = [line for line in re.search(r"```bash\n(.*?)```", section, flags=re.S)[1].splitlines() if line.startswith("python")]
    assert len(commands) == 3
    short = [
        "trainer.params.images_every=0",
        "trainer.params.validate_every=0",
        "trainer.params.log_every=1",
        "data.params.workers=0",
        "data.params.batch_size=2",
    ]
    narrow = ["model.params.model.params.network.params.width=32", "model.params.model.params.network.params.blocks_per_level=1"]
    runs = tmp_path / "logs"
    for i, command in enumerate(commands):
        words = shlex.split(command.replace("my/photos", str(tmp_path / "photos")))[1:]
        if words[0] == "main.py":
            words += ["-l", str(runs), *short, "trainer.params.steps=3", *(narrow if i else [])]
        done_runs = {p.name.split("_", 1)[1]: p for p in runs.iterdir()} if runs.exists() else {}
        words = [
            w.replace("logs/STAGE1", str(done_runs.get("first-stage"))).replace("logs/STAGE2", str(done_runs.get("ldm"))) for w in words
        ]
        if words[0] != "main.py":
            words += ["--n", "2", "--steps", "2", "--outdir", str(tmp_path / "out")]
        done = run(*words)
        assert done.returncode == 0, f"{words}\n{done.stderr}"
    assert (tmp_path / "out" / "00001.png").is_file()
