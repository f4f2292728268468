"""Pictures of a run go to its loggers as well, each in its own way."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ldm.data.grid import grid_of
from ldm.training.callbacks.loggers import TensorBoard, log_image
from ldm.training.callbacks.metrics import MetricLogger
from ldm.training.callbacks.validation import ValidationCallback


def test_tensorboard_gets_the_grids_that_lie_in_images(tmp_path: Path) -> None:
    rows = {"samples": torch.rand(3, 1, 8, 8) * 2 - 1, "originals": torch.rand(3, 3, 8, 8) * 2 - 1}
    module = SimpleNamespace(step=40, device=torch.device("cpu"), pictures=lambda batch: rows, keys=dict)
    logger = TensorBoardLogger(tmp_path, name="", version="")
    monitor = ValidationCallback(tmp_path, None, MetricLogger(tmp_path, 1, 0, 0.1), 0, 20, 1)  # type: ignore[arg-type]
    monitor.cache = [{"image": rows["originals"], "id": ["a", "b", "c"]}]
    monitor._draw(SimpleNamespace(loggers=[logger, CSVLogger(tmp_path / "csv")]), module)  # type: ignore[arg-type]
    logger.experiment.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["images"]) == ["originals", "samples"]
    (event,) = events.Images("samples")
    (tmp_path / "event.png").write_bytes(event.encoded_image_string)
    written = Image.open(tmp_path / "images" / "step-000040-samples.png").convert("RGB")
    assert event.step == 40 and np.array_equal(np.asarray(Image.open(tmp_path / "event.png").convert("RGB")), np.asarray(written))


def test_other_loggers_get_them_in_their_own_words() -> None:
    picture, got = grid_of(torch.zeros(2, 3, 4, 4)), []

    def note(*words: Any, **named: Any) -> None:
        got.append((words, named))

    log_image(SimpleNamespace(log_image=note), "samples", picture, 7)
    log_image(SimpleNamespace(experiment=SimpleNamespace(log_image=note), run_id="r"), "samples", picture, 7)
    log_image(SimpleNamespace(experiment=SimpleNamespace(log_image=note)), "samples", picture, 7)
    log_image(SimpleNamespace(experiment=SimpleNamespace()), "samples", picture, 7)
    log_image(SimpleNamespace(), "samples", picture, 7)
    assert got == [
        ((), {"key": "samples", "images": [picture], "step": 7}),
        (("r", picture, "samples/step-000007.png"), {}),
        ((picture,), {"name": "samples", "step": 7}),
    ]


def test_tensorboards_files_lie_in_the_run_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LDM_PLACE", "elsewhere")
    folder = tmp_path / "$LDM_PLACE [1]"
    logger = TensorBoard(folder)
    logger.log_metrics({"loss": 1.0}, 1)
    logger.experiment.close()
    assert list(folder.glob("events.*")) and [path.name for path in tmp_path.iterdir()] == [folder.name]
