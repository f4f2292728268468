"""What is said about time: after the first steps, on this machine, for this training and for the demo that it is a part of."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import main as program
from ldm.cli.summary import resume_command
from ldm.training import TrainerSettings
from ldm.training.callbacks import progress as records
from ldm.training.module import TrainingModule


def steps_of(progress: records.Progress, seconds: float, count: int, monkeypatch: pytest.MonkeyPatch, start: int = 0) -> None:
    """Let `count` steps pass, each of so many seconds, the first three of a hundred times as many."""
    now = 0.0
    monkeypatch.setattr(records.time, "perf_counter", lambda: now)
    monkeypatch.setattr(records.sys.stderr, "isatty", lambda: False, raising=False)
    module, trainer = TrainingModule(torch.optim.SGD), SimpleNamespace(is_global_zero=True)
    module.step = start
    progress.on_train_start(trainer, module)
    for number in range(count):
        now += seconds * (100 if number < 3 else 1)
        module.step += 1
        progress.on_train_batch_end(trainer, module, None, {}, number)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "on this machine" in record.message]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"steps": 600}, "0.5 s per step on this machine: about 5:00 for 600 steps"),
        ({"steps": 600, "share": 0.25}, "0.5 s per step on this machine: about 5:00 for 600 steps, 20:00 with what follows"),
        ({"steps": 600, "seconds": 1000.0}, "0.5 s per step on this machine: about 5:00 for 600 steps"),
        ({"steps": 600, "price": 3.6}, "0.5 s per step on this machine: about 5:00 for 600 steps, 0.30 at 3.6 per hour"),
        ({"steps": 600, "seconds": 100.0}, "0.5 s per step on this machine; training ends after 1:40"),
    ],
)
def test_the_first_steps_tell_how_long_it_will_take(arguments, expected, monkeypatch, caplog) -> None:
    caplog.set_level(logging.INFO)
    steps_of(records.Progress(SimpleNamespace(every=50, table=None), **arguments), 0.5, 40, monkeypatch)
    assert said(caplog) == [expected]  # once, and without the slow first steps


def test_a_resumed_run_speaks_of_what_is_left(monkeypatch, caplog) -> None:
    caplog.set_level(logging.INFO)
    steps_of(records.Progress(SimpleNamespace(every=50, table=None), 600), 0.5, 20, monkeypatch, start=480)
    assert said(caplog) == ["0.5 s per step on this machine: about 1:00 for 120 steps"]


def test_a_price_shows_what_was_spent_over_all_resumes_and_what_is_left(monkeypatch, capsys, caplog) -> None:
    caplog.set_level(logging.INFO)
    metrics = SimpleNamespace(every=50, table=SimpleNamespace(rows=[{"loss": "1"}]), images_per_second=8.0)
    progress = records.Progress(metrics, 1000, price=2.5)
    module, trainer = TrainingModule(torch.optim.SGD), SimpleNamespace(is_global_zero=True)
    module.step, module.seconds, now = 450, 7200.0, 0.0
    monkeypatch.setattr(records.time, "perf_counter", lambda: now)
    progress.on_train_start(trainer, module)
    module.step, module.seconds, now = 499, 7200.0 + 3600, 3600.0
    progress.on_train_batch_end(trainer, module, None, {}, 0)
    module.step = 500
    progress.on_train_batch_end(trainer, module, None, {}, 0)
    assert capsys.readouterr().err == "step 500/1000: loss 1, 8 images/s, 10:00:00 left; cost so far 7.50, left 25.00\n"
    progress.on_train_end(trainer, module)
    assert caplog.messages == ["cost so far: 7.50 (3:00:00 at 2.5 per hour, with all resumes)"]


def test_the_command_that_resumes_keeps_the_price(capsys) -> None:
    flags = SimpleNamespace(trust=[], allow_env=[], price=2.5)
    assert resume_command(Path("logs/a"), flags).endswith("main.py --resume logs/a --price 2.5")  # type: ignore[arg-type]
    assert resume_command(Path("logs/a"), SimpleNamespace(trust=[], allow_env=[], price=None)).endswith("logs/a")  # type: ignore[arg-type]
    with pytest.raises(SystemExit):
        program.main(["--resume", "logs/a", "--price", "-1"])
    assert "--price: -1: expected at least 0" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan")])
def test_a_share_is_one(share: float) -> None:
    with pytest.raises(ValueError, match="share must be a number"):
        TrainerSettings(steps=1, share=share)
