"""Images larger than in training: in windows by themselves, and how far they are is to be seen. Messages stand beside bars."""

import io
import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from test_task_scripts import FAST, models, photo, pixels, text_of  # noqa: F401  (a fixture)
from tqdm import tqdm

from ldm.diffusion import Tiles
from ldm.evaluation.provenance import provenance_of
from ldm.system.progress import QUIET, Steps
from ldm.system.terminal import BesideBars
from ldm.training.callbacks.metrics import MetricLogger
from ldm.training.callbacks.progress import Progress


def label_map(path: Path, width: int, height: int) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 4, (height, width), dtype=np.uint8)).save(path)
    return path


def words_for(name: str, folder: Path, width: int, height: int) -> list[object]:
    """What a task's script is given for images of a size; the models here were trained on 16 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "superres":
        return [photo(folder / "a.png", width // 2, height // 2)]
    if name == "semantic":
        return [label_map(folder / "a.png", width, height), "--n", 1]
    photo(folder / "a.png", width, height)
    mask = np.zeros((height, width), np.uint8)
    mask[2:9, 3:10] = 255
    Image.fromarray(mask).save(folder / "a_mask.png")
    return ["--indir", folder]


@pytest.mark.parametrize("name", ["superres", "inpaint", "semantic"])
def test_large_images_go_in_windows_and_it_is_said(models: dict[str, Path], script, tmp_path: Path, name: str, caplog) -> None:  # noqa: F811
    caplog.set_level(logging.INFO)
    shown = "00000.png" if name == "semantic" else "a.png"

    def made(out: str, *more: object, width: int = 40, height: int = 24) -> tuple[Path, str]:
        words = words_for(name, tmp_path / f"{width}", width, height)
        done = script(f"scripts/{name}.py", models[name], *words, *FAST, *more, "--outdir", tmp_path / out)
        assert done.returncode == 0, done.stderr
        return tmp_path / out / shown, done.stdout

    by_itself, said = made("default")
    assert "larger than the 16 pixels of training: in tiles of 16 that overlap by 4 (--whole" in said and "in tiles of 16" in caplog.text
    record = text_of(by_itself)
    assert (record["window"], record["overlap"]) == (16, 4)
    named, said = made("named", "--window", 16, "--overlap", 4)
    assert np.array_equal(pixels(named), pixels(by_itself)) and "--whole" not in said
    whole, said = made("whole", "--whole")
    assert not np.array_equal(pixels(whole), pixels(by_itself)) and "tiles" not in said and "window" not in text_of(whole)
    small, said = made("small", width=16, height=16)
    assert "tiles" not in said and "window" not in text_of(small)


def test_sizes_are_told_apart_in_one_command(models: dict[str, Path], script, tmp_path: Path) -> None:  # noqa: F811
    """Small images stay together in a batch; all say the same, so that they are one set for measures."""
    for i, side in enumerate((8, 20, 8)):
        photo(tmp_path / "in" / f"{i}.png", side, side)
    done = script("scripts/superres.py", models["superres"], tmp_path / "in", *FAST, "--outdir", tmp_path / "out")
    assert done.returncode == 0 and "3 images in" in done.stdout and "1 of 3 is larger than" in done.stdout, done.stderr
    alone = script("scripts/superres.py", models["superres"], tmp_path / "in" / "0.png", *FAST, "--outdir", tmp_path / "alone")
    assert alone.returncode == 0 and np.abs(pixels(tmp_path / "alone" / "0.png") - pixels(tmp_path / "out" / "0.png")).max() <= 1
    provenance_of([text_of(tmp_path / "out" / f"{i}.png") for i in range(3)], ["0", "1", "2"], "out")  # one set
    done = script("scripts/superres.py", models["superres"], tmp_path / "in", *FAST, "--whole", "--window", 16, "--outdir", tmp_path / "x")
    assert done.returncode == 2 and "--whole disables tiles" in done.stderr


def test_tiles_tell_how_many_are_done() -> None:
    told: list[tuple[int, int]] = []
    tiles = Tiles(4, 2, batch=3, told=lambda number, count: told.append((number, count)))
    tiles.apply(lambda crops, rows: crops, torch.ones(1, 1, 8, 8))
    assert told == [(3, 9), (6, 9), (9, 9)] and tiles == Tiles(4, 2, batch=3)


class Terminal(io.StringIO):
    """A standard error output that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> list[str]:
        """What stands on each line in the end: a carriage return begins it anew."""
        return [line.split("\r")[-1].rstrip() for line in self.getvalue().split("\n")]


def test_a_job_shows_steps_and_windows_at_a_terminal_and_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    steps = Steps()
    with steps.shown(10, done=4):
        steps.step()
        steps.piece(3, 49)
        steps.bar.refresh()
        assert "5/10" in terminal.getvalue() and "tile 3 of 49" in terminal.getvalue()
    monkeypatch.setattr(sys, "stderr", plain := io.StringIO())
    now = [0.0]
    monkeypatch.setattr("ldm.system.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    with (steps := Steps()).shown(10):
        for _ in range(10):
            now[0] += QUIET
            steps.step()
    assert plain.getvalue().splitlines()[0] == "step 2 of 10, 2:00 left" and len(plain.getvalue().splitlines()) == 4


def test_messages_stand_on_lines_of_their_own_above_the_bar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a training: its bar, a message while it is shown, and an error that ends it."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    handler = BesideBars(sys.stderr)
    log = logging.getLogger("beside")
    log.addHandler(handler)
    progress = Progress(MetricLogger(tmp_path, 1, 0, 1.0), 100)
    try:
        progress.bar = tqdm(total=100, unit="step", file=sys.stderr)
        progress.bar.update(10)
        log.warning("step 10: warning: pale colours")
        progress.bar.update(10)
        progress.on_exception(None, None, RuntimeError())  # type: ignore[arg-type]
        sys.stderr.write("error: out of memory\n")
    finally:
        log.removeHandler(handler)
    assert "step 10: warning: pale colours" in terminal.shown and "error: out of memory" in terminal.shown, terminal.shown
    assert json.dumps(terminal.shown).count("20/100") == 1


def test_entry_points_log_beside_bars(run) -> None:
    code = "import logging, warnings; from ldm.system.terminal import log_to_terminal, BesideBars; log_to_terminal()\n"
    code += "assert isinstance(logging.getLogger().handlers[0], BesideBars); warnings.warn('pale'); logging.info('said')"
    done = run("-c", code)
    assert done.returncode == 0 and "pale" in done.stderr and done.stderr.endswith("said\n"), done.stderr
