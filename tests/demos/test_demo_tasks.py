"""The script behind `make demo-tasks`, with a few training steps."""

import json
from pathlib import Path

import pytest

SMALL = ["trainer.params.steps=2", "trainer.params.images_every=0", "trainer.params.validate_every=0", "sampling.steps=2"]


def test_two_tasks_end_to_end_and_what_is_finished_is_kept(run, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    words = ["scripts/demo_tasks.py", "--outdir", tmp_path, "--samples", 40]
    done = run(*words, "--only", "semantic", *SMALL)
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "summary.json").read_text())
    assert list(first) == ["semantic"]
    done = run(*words, "--only", "semantic,class", *SMALL)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary) == ["class", "semantic"] and summary["semantic"] == first["semantic"]
    for record in summary.values():
        assert {"metric", "value", "baseline", "higher_is_better", "training_seconds", "others"} <= record.keys()
        assert record["training_seconds"] > 0 and record["others"]["first_stage_seconds"] > 0
        assert record["others"]["weights_sha256"] and record["others"]["samples"] == 40
    assert len({record["others"]["first_stage_seconds"] for record in summary.values()}) == 1  # one first stage for both
    assert len(list((tmp_path / "logs").iterdir())) == 3
    page = (tmp_path / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(("words", "says"), [(["--samples", 3], "at least 40"), (["--only", "sculpture"], "sculpture")])
def test_wrong_flags(script, words: list[object], says: str, tmp_path: Path) -> None:
    done = script("scripts/demo_tasks.py", "--outdir", tmp_path, *words)
    assert done.returncode == 2 and says in done.stderr
