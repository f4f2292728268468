"""What is said about time: after the first steps, on this machine, for this training and for the demo that it is a part of."""

import logging
from types import SimpleNamespace

import pytest
import torch

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


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan")])
def test_a_share_is_one(share: float) -> None:
    with pytest.raises(ValueError, match="share must be a number"):
        TrainerSettings(steps=1, share=share)
