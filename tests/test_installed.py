"""The installed package works without a clone: the command `ldm`, its sub-commands and configs, and what it prints."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ldm.system import shell
from ldm.system.shipped import config_file

QUIET = ["trainer.params.images_every=0", "trainer.params.validate_every=0", "trainer.params.accelerator=cpu"]
BUILD = "import sys, setuptools.build_meta as build; build.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel."""
    root, place = Path(__file__).resolve().parent.parent, tmp_path_factory.mktemp("installed")
    clone = place / "clone"
    for folder in ("ldm", "scripts", "configs"):
        shutil.copytree(root / folder, clone / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(root / file, clone / file)
    done = subprocess.run([sys.executable, "-c", BUILD, str(place)], cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = place.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(place / "site")
    shutil.rmtree(clone)
    return place / "site"


def call(site: Path, cwd: Path, *words: object, code: int = 0) -> str:
    """The output of a command of the installed package."""
    environment = {**os.environ, "PYTHONPATH": str(site), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_wheel_has_the_package_its_scripts_and_its_configs(site: Path, root: Path) -> None:
    assert {path.name for path in site.iterdir()} - {"ldm"} == {next(site.glob("ldm-*.dist-info")).name}
    shipped = site / "ldm" / "shipped"
    configs = {path.relative_to(root) for path in (root / "configs").rglob("*.yaml")}
    assert {path.relative_to(shipped) for path in (shipped / "configs").rglob("*") if path.is_file()} == configs
    scripts = {path.name for path in (shipped / "scripts").iterdir()}
    assert {"sample.py", "evaluate.py", "convert.py", "publish.py", "report.py", "inspect_data.py"} <= scripts
    for path in (root / "scripts").glob("*.py"):  # those that need a clone stay in it
        needs = re.search(r"^\s*from (paper|demos)\b|fixtures|\bcheck_all\b", path.read_text(encoding="utf-8"), flags=re.M)
        assert (path.name in scripts) == (needs is None and path.stem not in ("parity", "roundtrips", "check_all")), path.name
    points = configparser.ConfigParser()
    points.read(next(site.glob("ldm-*.dist-info")) / "entry_points.txt")
    assert points["console_scripts"]["ldm"] == "ldm.cli.command:main"


def test_commands_say_what_there_is_and_are_called_as_they_were_typed(site: Path, tmp_path: Path) -> None:
    listed = call(site, tmp_path, "-m", "ldm", "--help")
    assert "  train " in listed and "  sample " in listed and "demo_tasks" not in listed
    told = call(site, tmp_path, "-m", "ldm", "sample", "--help")
    assert told.startswith("usage: python -m ldm sample ") and "python -m ldm sample logs/<run> --n 16" in told and "scripts/" not in told
    told = call(site, tmp_path, "-m", "ldm", "train", "--help")
    assert told.startswith("usage: python -m ldm train ") and "main.py" not in told
    assert "'sampel' is not a command; did you mean sample?" in call(site, tmp_path, "-m", "ldm", "sampel", code=2)
    assert "no such file or run folder" in call(site, tmp_path, "-m", "ldm", "sample", "nowhere", code=3)
    config = call(site, tmp_path, "-m", "ldm", "train", "--base", "configs/own/first-stage.yaml", "--print-config")
    assert "target: ldm.first_stage.KLAutoencoder" in config and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("called", "start"),
    [("/venv/bin/ldm", "ldm"), ("/venv/Scripts/ldm.exe", "ldm"), ("/site/ldm/__main__.py", "python -m ldm"), ("main.py", None)],
)
def test_texts_and_commands_name_the_program_that_there_is(called: str, start: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [called, "sample"])
    text = "python scripts/sample.py RUN, scripts/evaluate.py --out; my/scripts/own.py, srun python main.py --base main.yaml, /x/main.py"
    if start is None:
        assert shell.as_installed(text) == text and shell.command("main.py", "--resume", "x").startswith("python ")
        return
    said = f"{start} sample RUN, {start} evaluate --out; my/scripts/own.py, srun {start} train --base main.yaml, /x/main.py"
    assert shell.as_installed(text) == said
    assert shell.command("main.py", "--base", "a b.yaml", "--train", "x=1") == f"{start} train --base 'a b.yaml' x=1"
    assert shell.command("scripts/convert.py", "x") == f"{start} convert x"


def test_configs_of_the_project_are_found_from_everywhere(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = Path("configs/own/ldm.yaml")
    assert config_file(name) == root / name and config_file(Path("other/x.yaml")) == Path("other/x.yaml")
    name.parent.mkdir(parents=True)
    name.write_text("seed: 1\n")
    assert config_file(name) == name  # one's own comes first


def following(text: str) -> list[str]:
    """The words of the command in the last line, after "python"."""
    return shlex.split(text.strip().splitlines()[-1])[1:]


@pytest.mark.slow
def test_training_sampling_measuring_and_resuming_without_a_clone(site: Path, tmp_path: Path) -> None:
    few = ["trainer.params.steps=2", *QUIET]
    said = call(site, tmp_path, "-m", "ldm", "train", "--base", "configs/demo/digits-first-stage.yaml", *few)
    words = following(said)
    assert words[:4] == ["-m", "ldm", "train", "--base"] and words[4] == "configs/demo/digits.yaml"
    said = call(site, tmp_path, *words, *few)
    words = following(said)
    assert words[:3] == ["-m", "ldm", "sample"]
    run, outdir = words[3], words[-1]
    call(site, tmp_path, *words, "--n", 4, "--steps", 2)
    measured = [outdir, run, "--metrics", "kid", "--extractor", "demo", "--kid-size", 2, "--allow-few", "--out", f"{run}/record.json"]
    assert "KD (demo features)" in call(site, tmp_path, "-m", "ldm", "evaluate", *measured)
    call(site, tmp_path, "-m", "ldm", "train", "--resume", run, "trainer.params.steps=3")
    call(site, tmp_path, "-m", "ldm", "train", "--base", f"{run}/config.yaml", "--name", "again", *few)
    call(site, tmp_path, "-m", "ldm", "report", run)
    call(site, tmp_path, "-m", "ldm", "publish", run, "given")
    code = "import ldm; print(ldm.__file__, ldm.load('given').sample(2, settings={'steps': 2})[0].size)"
    said = call(site, tmp_path, "-c", code)
    assert said.startswith(str(site)) and "(32, 32)" in said
