"""Parts that the project has never heard of are used from YAML: trained, resumed, sampled, exported, checked."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ldm
import main as program
from ldm.config import targets
from ldm.errors import UserError

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "fixtures" / "runs"
CONFIG, PARTS = HERE / "sky.yaml", sorted((HERE / "mylab").glob("[a-z]*.py"))
TRUST = ["--trust", "mylab"]


@pytest.fixture(scope="module", autouse=True)
def _importable():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        yield


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    logs = tmp_path_factory.mktemp("open") / "logs"
    assert program.main(["--base", str(CONFIG), "--train", "-l", str(logs), *TRUST]) == 0
    (folder,) = logs.iterdir()
    return folder


def brightness(folder: Path) -> list[float]:
    return [float(np.asarray(Image.open(path)).mean()) for path in sorted(folder.glob("0*.png"))]


def test_the_check_takes_it(capsys) -> None:
    assert program.main(["--base", str(CONFIG), "--check", *TRUST]) == 0
    assert "ready" in capsys.readouterr().out


def test_the_check_knows_what_does_not_fit(capsys) -> None:
    wrong = "model.params.model.params.conditioner.params.width=4"
    assert program.main(["--base", str(CONFIG), "--check", *TRUST, wrong]) == 2
    assert "network.vector_channels is 8, but the conditioner gives 4" in capsys.readouterr().out
    assert program.main(["--base", str(CONFIG), "--check", *TRUST, "model.params.model.params.conditioner.params.uncond_prob=2"]) == 2
    assert "uncond_prob must be a number from 0 to 1" in capsys.readouterr().out
    assert program.main(["--base", str(CONFIG), "--check", *TRUST, "sampling.sampler=plms"]) == 2
    assert "plms" in capsys.readouterr().out


def test_without_trust_none_of_it_is_imported(capsys) -> None:
    assert program.main(["--base", str(CONFIG), "--check"]) == 2
    assert "mylab" in capsys.readouterr().out


def test_it_resumes(run_folder: Path) -> None:
    assert program.main(["--resume", str(run_folder), "trainer.params.steps=310", *TRUST]) == 0
    assert (run_folder / "checkpoints" / "step-310.ckpt").is_file()


@pytest.mark.parametrize("trust", ["mylab", ["mylab"]], ids=["text", "list"])
def test_it_loads_in_one_line_with_its_own_sampler(run_folder: Path, trust, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "_trusted", ())
    model = ldm.load(run_folder, device="cpu", trust=trust)
    assert model.settings.sampler == "mylab.sampler.midpoint"
    ldm.load(RUNS / "class", device="cpu")  # takes nothing from the first
    assert len(model.sample(n=2, hour=[0, 12])) == 2
    with pytest.raises(UserError, match="'mylab.first_stage.Squares' is not needed for this.*; --trust mylab allows it"):
        ldm.load(run_folder, device="cpu")


def test_a_table_of_any_name_gives_its_conditions(run_folder: Path, script, tmp_path: Path) -> None:
    (tmp_path / "hours.csv").write_text("hour\n0\n12\n")
    done = script("scripts/sample.py", run_folder, "--from-file", tmp_path / "hours.csv", "--outdir", tmp_path / "out", *TRUST)
    assert done.returncode == 0, done.stderr
    assert json.loads(Image.open(tmp_path / "out" / "00001.png").text["ldm"])["condition"] == {"hour": 12}


def test_scripts_sample_by_its_own_condition(run_folder: Path, script, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--condition", "hour=0", "--condition", "hour=12", "--n", 8, "--outdir", out, *TRUST]
    done = script("scripts/sample.py", run_folder, *words)
    assert done.returncode == 0, done.stderr
    shown = brightness(out)
    assert len(shown) == 8 and sum(shown[1::2]) > sum(shown[::2]) + 4 * 60  # noon is brighter than midnight
    said = json.loads(Image.open(out / "00001.png").text["ldm"])
    assert said["condition"] == {"hour": 12} and said["sampler"] == "mylab.sampler.midpoint"


def test_scripts_sample_from_a_file(run_folder: Path, script, tmp_path: Path) -> None:
    rows = tmp_path / "hours.jsonl"
    rows.write_text('{"hour": 12}\n{"hour": 0}\n')
    done = script("scripts/sample.py", run_folder, "--from-file", rows, "--sampler", "euler", "--outdir", tmp_path / "out", *TRUST)
    assert done.returncode == 0, done.stderr
    noon, midnight = brightness(tmp_path / "out")
    assert noon > midnight + 60


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "this model reads hour: give it by --condition hour=VALUE"),
        (["--condition", "hour=99"], "hour 99 is out of range: this model knows 0 to 23"),
        (["--condition", "hour=noon"], "--condition hour=noon: expected int64 ()"),
        (["--condition", "hour=1.5"], "expected integers"),
        (["--condition", "minute=3"], "this model reads hour this way"),
        (["--condition", "hour"], "expected --condition KEY=VALUE"),
        (["--condition", "hour=no.npy"], "no.npy: no such file"),
    ],
)
def test_conditions_that_are_none_are_one_line(run_folder: Path, script, tmp_path: Path, words: list[str], message: str) -> None:
    done = script("scripts/sample.py", run_folder, *words, "--outdir", tmp_path / "out", *TRUST)
    assert done.returncode in (2, 3) and message in done.stderr and "Traceback" not in done.stderr


def test_the_page_shows_this_code() -> None:
    page = (HERE.parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    yaml = re.findall(r"```yaml\n(.*?)```", page, flags=re.S)
    for part in PARTS:
        code = part.read_text(encoding="utf-8")
        assert code in blocks, f"docs/extending.md does not show {part.name} as it is"
        assert len(code.splitlines()) <= 40
    assert CONFIG.read_text(encoding="utf-8") in yaml
