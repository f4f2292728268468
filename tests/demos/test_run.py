"""Trainings that demos start are stopped with them, and may save."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from demos import run

STAND_IN = """
import pathlib, signal, sys, time
def save(*_):
    time.sleep(0.5)
    pathlib.Path("saved").touch()
    sys.exit(1)
signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, save)
pathlib.Path("pid").write_text(str(__import__("os").getpid()))
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_stopped_demo_lets_its_training_save(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "main.py").write_text(STAND_IN)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    pid = tmp_path / "pid"

    def stop() -> None:
        while not (pid.is_file() and pid.read_text()):
            time.sleep(0.02)
        if number == signal.SIGINT:  # the terminal tells all processes of a command
            os.kill(int(pid.read_text()), number)
        os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run.run_main([], "a stand-in")
    assert (tmp_path / "saved").is_file() and signal.getsignal(signal.SIGTERM) == before


def test_every_demo_says_how_long_all_of_it_takes() -> None:
    from demos.tasks import LONGER, TASKS

    tasks = TASKS | LONGER
    trained = {"digits", "digits-first-stage", *tasks, *(task.first_stage for task in tasks.values())}
    assert trained == run.TYPICAL.keys()
    typical, pause = run.TYPICAL, run.MEASURING
    expected = typical["digits-first-stage"] / (typical["digits-first-stage"] + typical["digits"] + 2 * pause)
    assert run.share_of("digits-first-stage", ["digits"]) == pytest.approx(expected)
    assert run.share_of("digits", []) == pytest.approx(typical["digits"] / (typical["digits"] + pause))
    assert run.share_of("a config of one's own", ["digits"]) == 1.0


@pytest.mark.slow
def test_the_three_forms_of_the_text_demo_in_small(run, tmp_path: Path) -> None:
    small = ["trainer.params.steps=3", "trainer.params.images_every=0", "trainer.params.validate_every=0"]
    done = run("scripts/demo.py", "forms", "--n", 40, "--outdir", tmp_path, *small, timeout=900)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["forms"]) == {"text", "text-flow", "text-dit"} and summary["prompts"] == 40
    assert all(set(form["steps"]) == {"4", "8", "20"} for form in summary["forms"].values())
    assert done.stdout.count("| DiT, flow |") == 1
