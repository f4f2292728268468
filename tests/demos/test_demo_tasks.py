"""The script behind `make demo-tasks`, with a few training steps."""

import json
from pathlib import Path

import pytest
from programs import Programs

import demos.run

STAGE = "text-first-stage"
SMALL = ["trainer.params.steps=2", "trainer.params.images_every=0", "trainer.params.validate_every=0", "sampling.steps=2"]


def test_two_tasks_end_to_end_and_what_is_finished_is_kept(
    script, programs: Programs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demos.run, "subprocess", programs)
    pytest.importorskip("skimage")
    words = ["scripts/demo_tasks.py", "--outdir", tmp_path, "--samples", 40]
    done = script(*words, "--only", "semantic", *SMALL)
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "summary.json").read_text())
    assert list(first) == ["semantic"]
    done = script(*words, "--only", "semantic,class", *SMALL)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary) == ["class", "semantic"] and summary["semantic"] == first["semantic"]
    for record in summary.values():
        assert {"metric", "value", "baseline", "higher_is_better", "training_seconds", "others"} <= record.keys()
        assert record["training_seconds"] > 0 and record["others"]["first_stage_seconds"] > 0
        assert record["others"]["weights_sha256"] and record["others"]["samples"] == 40
        assert record["others"]["overrides"] == SMALL and record["others"]["training_steps"] == 2
        assert record["others"]["precision"] in ("fp32", "bf16")
    assert len({record["others"]["first_stage_seconds"] for record in summary.values()}) == 1  # one first stage for both
    assert len(list((tmp_path / "logs").iterdir())) == 3
    page = (tmp_path / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("record", "words", "says"),
    [
        ({"class": {"others": {"overrides": ["seed=5"], "asked_samples": 40}}}, [], "class was made with overrides ['seed=5'], not []"),
        ({"class": {"others": {"overrides": [], "asked_samples": 80}}}, [], "class was made with asked samples 80, not 40"),
        (
            {STAGE: {"run": ".", "training_seconds": 1, "overrides": ["seed=5"]}},
            [],
            "text-first-stage was made with overrides",
        ),
        # main.py refuses this word at once, so that what is trained can be told without training
        ({STAGE: {"run": "gone", "training_seconds": 1}}, ["wrong"], "training text-first-stage ended"),
        (
            {STAGE: {"run": ".", "training_seconds": 1, "overrides": ["seed=5"]}},
            ["wrong", "--again"],
            "training text-first-stage",
        ),
        ({STAGE: {"run": ".", "training_seconds": 1, "overrides": ["wrong"]}}, ["wrong", "--again"], "training class ended"),
    ],
)
def test_what_was_made_otherwise_is_not_mixed_in(script, record: dict, words: list[str], says: str, tmp_path: Path) -> None:
    for name, content in record.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    done = script("scripts/demo_tasks.py", "--outdir", tmp_path, "--samples", 40, "--only", "class", *words)
    assert done.returncode == 2 and says in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("demo_tasks", ["--samples", 3], "at least 40"),
        ("demo_tasks", ["--only", "sculpture"], "sculpture"),
        ("demo_tasks", ["--onyl", "class"], "unrecognized arguments: --onyl"),
        ("demo_tasks", ["--outdir", "README.md"], "--outdir README.md: cannot be made a folder"),
        ("demo", ["digits", "--outdir", "README.md"], "--outdir README.md: cannot be made a folder"),
        ("demo", ["numbers"], "argument demo: invalid choice: 'numbers'"),
        ("demo", [], "the following arguments are required: demo (--help"),
        ("inspect_data", [], "the following arguments are required: -b/--base"),
        ("rescale_effect", ["logs/run"], "the following arguments are required: --indir"),
    ],
)
def test_wrong_flags_are_one_line(script, name: str, words: list[object], says: str, tmp_path: Path) -> None:
    done = script(f"scripts/{name}.py", "--outdir", tmp_path, *words)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and says in done.stderr and done.stderr.count("\n") == 1, done.stderr
