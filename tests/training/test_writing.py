"""A run whose folder cannot be written: a checkpoint that is lost ends it, and what was good stays; anything else is told once."""

import builtins
import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import CSVLogger
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.optim.lr_scheduler import ReduceLROnPlateau

import main as program
from ldm.evaluation.runs import read_lines, read_series
from ldm.system.run_folder import newest_checkpoint, newest_weights
from ldm.system.weights import read_checkpoint
from ldm.training import AutoencoderTraining
from ldm.training.callbacks.metrics import MetricLogger, MetricsTable
from ldm.training.callbacks.validation import ValidationCallback
from ldm.training.finite import unfinite

FULL = os.strerror(errno.ENOSPC)
TRAINER = "{steps: 6, accelerator: cpu, precision: 32-true, log_every: 1, checkpoint_every: 2, validate_every: 2, images_every: 2, keep: 9}"
ADVERSARY = (
    "model.params.loss.params.discriminator={target: ldm.networks.PatchDiscriminator, params: {in_channels: 1, width: 8, layers: 2}}"
)


def train(logs: Path, *more: str) -> tuple[int, Path]:
    """A tiny run of six steps that is saved, validated and drawn at every second; its exit code and its folder."""
    words = ["-b", "configs/demo/digits-first-stage.yaml", "-t", "--no-check", "-l", str(logs), "-n", "a"]
    tiny = [
        "model.params.autoencoder.params.width=32",
        "model.params.scheduler=null",
        "data.params.batch_size=4",
        f"trainer.params={TRAINER}",
    ]
    tiny += ["trainer.params.validation_batches=1", "data.params.workers=0"]
    code = program.main([*words, *tiny, *more])
    (folder,) = logs.glob("*_a")
    return code, folder


def incidents(run: Path) -> list[tuple[str, str]]:
    return [(row["kind"], row["what"]) for row in read_lines(run / "incidents.jsonl")[0]]


def full_for(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """No room for files with `part` in their path."""
    before = {"replace": os.replace, "open": builtins.open}

    def replace(source: object, target: object) -> None:
        if part in str(target):
            raise OSError(errno.ENOSPC, FULL)
        before["replace"](source, target)

    def opened(file: object, mode: str = "r", *more: object, **others: object) -> object:
        if part in str(file) and "part" not in str(file) and not set(mode).isdisjoint("wax"):
            raise OSError(errno.ENOSPC, FULL)
        return before["open"](file, mode, *more, **others)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(builtins, "open", opened)


@pytest.mark.parametrize(
    ("part", "good"),
    [
        ("step-4.ckpt", "step-2.ckpt"),
        pytest.param("step-4.safetensors", "step-2.ckpt", marks=pytest.mark.slow),
        pytest.param("checkpoints/last", "step-2.ckpt", marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_that_cannot_be_written_ends_the_run(part: str, good: str, tmp_path: Path, monkeypatch, capsys) -> None:
    with monkeypatch.context() as patch:
        full_for(patch, part)
        code, run = train(tmp_path)
    told = capsys.readouterr().err
    (line,) = (line for line in told.splitlines() if line.startswith("error: "))
    assert code == 2 and "Traceback" not in told
    assert f"{part}: cannot be written ({FULL}); the last good checkpoint is {(run / 'checkpoints' / good).resolve()}" in line
    assert incidents(run)[-1][0] == "ended" and part in incidents(run)[-1][1]
    assert not list(run.rglob("*.part"))
    assert program.main(["--resume", str(run), "--no-check"]) == 0  # and then there is room
    assert newest_checkpoint(run).name == "step-6.ckpt"
    assert read_checkpoint(newest_checkpoint(run))["step"] == 6 and newest_weights(run).name.startswith("step-6.")


@pytest.mark.parametrize("part", ["step-4.ckpt", pytest.param("checkpoints/last", marks=pytest.mark.slow)])
def test_a_run_killed_between_the_files_of_a_checkpoint_goes_on(part: str, tmp_path: Path) -> None:
    replace = os.replace

    def kill(source: object, target: object) -> None:
        if str(target).endswith(part) and list(Path(str(target)).parent.glob("step-4*")):
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)  # type: ignore[arg-type]

    if (child := os.fork()) == 0:
        try:
            os.replace = kill  # type: ignore[assignment]
            train(tmp_path)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (run,) = tmp_path.glob("*_a")
    assert list(run.rglob(".*.part")) and newest_checkpoint(run).name == "step-2.ckpt" and newest_weights(run).name == "step-2.safetensors"
    assert program.main(["--resume", str(run), "--no-check"]) == 0
    assert not list(run.rglob(".*.part")) and newest_checkpoint(run).name == "step-6.ckpt"
    assert [step for step, _ in read_series(run / "metrics.csv")["loss"]] == [1, 2, 3, 4, 5, 6]


def test_what_is_beside_training_is_told_once_and_training_goes_on(tmp_path: Path, monkeypatch, capsys) -> None:
    """Pictures, a validation, TensorBoard's thread that writes, and a logger of the config, all failing at every step."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, FULL)

    monkeypatch.setattr(RecordWriter, "write", refuse)
    monkeypatch.setattr(CSVLogger, "save", refuse)
    monkeypatch.setattr(AutoencoderTraining, "evaluate", lambda *_: {}["psnr"])
    full_for(monkeypatch, "images/")
    code, run = train(tmp_path, f"loggers.csv={{target: pytorch_lightning.loggers.CSVLogger, params: {{save_dir: {tmp_path}}}}}")
    told = capsys.readouterr().err
    assert code == 0 and "Traceback" not in told and "Exception in thread" not in told
    warnings = sorted(what for kind, what in incidents(run) if kind == "warning" and "training continues" in what)
    assert len(warnings) == 4, warnings
    assert warnings[0].startswith("CSVLogger: OSError: [Errno 28]") and FULL in warnings[1] and "images/step-000002" in warnings[2]
    assert warnings[3].startswith("validation: KeyError: 'psnr' (") and "test_writing.py, line" in warnings[3]
    assert newest_checkpoint(run).name == "step-6.ckpt"
    assert [step for step, _ in read_series(run / "metrics.csv")["loss"]] == [1, 2, 3, 4, 5, 6]


def test_a_picture_that_one_does_not_take_reaches_the_others(tmp_path: Path, monkeypatch) -> None:
    taken: list[str] = []

    class Broken:
        def log_image(self, **_: object) -> None:
            raise RuntimeError("no connection")

    class Good:
        def log_image(self, key: str, **_: object) -> None:
            taken.append(key)

    records = MetricLogger(tmp_path, 1, 0, 0.1)
    monitor = ValidationCallback(tmp_path, None, records, 0, 1, 1)  # type: ignore[arg-type]
    monitor.cache = [{"image": torch.zeros(2, 1, 8, 8)}]  # type: ignore[typeddict-unknown-key]
    module = SimpleNamespace(step=4, device="cpu", keys=dict, pictures=lambda batch: {"one": batch["image"], "two": batch["image"]})
    full_for(monkeypatch, "-one.png")
    monitor._draw(SimpleNamespace(loggers=[Broken(), Good()]), module)  # type: ignore[arg-type]
    assert taken == ["one", "two"] and [path.name for path in (tmp_path / "images").iterdir()] == ["step-000004-two.png"]
    assert [what.partition(":")[0] for _, what in incidents(tmp_path)] == ["pictures", "Broken"]


def test_rows_that_found_no_room_are_written_when_there_is_some(tmp_path: Path, monkeypatch) -> None:
    table = MetricsTable(tmp_path / "metrics.csv", 0)
    table.add({"step": 1, "loss": "2"})
    with monkeypatch.context() as patch:
        full_for(patch, "metrics.csv")
        for step in (2, 3):
            with pytest.raises(Exception, match="metrics.csv: cannot be written"):
                table.add({"step": step, "loss": "1"})
    (tmp_path / "metrics.csv").write_text("step,loss\n1,2\n2,")  # as far as it went
    table.add({"step": 4, "loss": "0"})
    assert read_series(tmp_path / "metrics.csv") == {"loss": [(1, 2), (2, 1), (3, 1), (4, 0)]}


def test_a_ledger_that_cannot_be_written_is_no_end_either(tmp_path: Path, monkeypatch, capsys) -> None:
    full_for(monkeypatch, "incidents.jsonl")
    full_for(monkeypatch, "metrics.csv")
    code, run = train(tmp_path, "trainer.params.steps=2", "trainer.params.validate_every=0", "trainer.params.images_every=0")
    assert code == 0 and newest_checkpoint(run).name == "step-2.ckpt" and not (run / "incidents.jsonl").exists()
    assert "Traceback" not in capsys.readouterr().err


def test_a_config_that_cannot_be_written_ends_the_run_before_it_begins(tmp_path: Path, monkeypatch, capsys) -> None:
    full_for(monkeypatch, "config.yaml")
    code, run = train(tmp_path)
    told = capsys.readouterr().err
    assert (
        code == 2 and f"config.yaml: cannot be written ({FULL})" in told and "Traceback" not in told and not (run / "checkpoints").exists()
    )


def test_a_place_where_no_run_can_begin_is_named(tmp_path: Path, capsys) -> None:
    (tmp_path / "logs").write_text("a file")
    words = ["-b", "configs/demo/digits-first-stage.yaml", "-t", "--no-check", "-l", str(tmp_path / "logs")]
    assert program.main(words) == 2
    told = capsys.readouterr().err
    assert f"error: {tmp_path / 'logs'}/" in told and "cannot be written (Not a directory)" in told and "Traceback" not in told


def test_a_full_disk_hides_no_other_error(tmp_path: Path, monkeypatch, capsys) -> None:
    """What Python says of it goes into a file of the run, where that can be."""

    def fault(*_: object) -> None:
        raise KeyError("psnr")

    monkeypatch.setattr(AutoencoderTraining, "training_step", fault)
    full_for(monkeypatch, "error-step")
    full_for(monkeypatch, "incidents")
    code, _ = train(tmp_path)
    told = capsys.readouterr().err
    assert code == 2 and "error: step 0: KeyError: 'psnr'" in told and "Traceback" not in told, told


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path, monkeypatch, capsys) -> None:
    """The run goes on there with what it has; what was in it is gone."""
    step = AutoencoderTraining._take_step

    def vanishing(module: AutoencoderTraining) -> None:
        step(module)
        if module.step == 2:  # becomes 3 after this
            (run,) = tmp_path.glob("*_a")
            shutil.rmtree(run)

    monkeypatch.setattr(AutoencoderTraining, "_take_step", vanishing)
    code, run = train(tmp_path)
    assert code == 0 and "Traceback" not in capsys.readouterr().err
    assert [path.name for path in sorted((run / "checkpoints").glob("*.ckpt"))] == ["step-4.ckpt", "step-6.ckpt"]
    assert newest_checkpoint(run).name == "step-6.ckpt" and len(read_series(run / "metrics.csv")["loss"]) == 6


def poison(where: str) -> Callable[[AutoencoderTraining], None]:
    def put(module: AutoencoderTraining) -> None:
        if where == "discriminator":
            next(module.loss.discriminator.parameters()).data.fill_(torch.nan)
        elif where == "optimizer":
            state = next(iter(module._optimizers()[0].state.values()))
            next(value for value in state.values() if isinstance(value, torch.Tensor)).fill_(torch.inf)
        else:
            module.ema.shadow[next(iter(module.ema.shadow))].fill_(torch.nan)

    return put


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("discriminator", "model.discriminator."),
        pytest.param("optimizer", "optimizers.0.state.", marks=pytest.mark.slow),
        pytest.param("average", "ema.ema.", marks=pytest.mark.slow),
    ],
)
def test_numbers_from_which_no_run_goes_on_are_not_saved(where: str, named: str, tmp_path: Path, monkeypatch, capsys) -> None:
    step = AutoencoderTraining._take_step

    def poisoned(module: AutoencoderTraining) -> None:
        step(module)
        if module.step == 3:  # becomes 4 after this
            poison(where)(module)

    monkeypatch.setattr(AutoencoderTraining, "_take_step", poisoned)
    code, run = train(tmp_path, ADVERSARY, "model.params.ema_decay=0.9")
    told = capsys.readouterr().err
    good = (run / "checkpoints" / "step-2.ckpt").resolve()
    assert code == 2 and "Traceback" not in told
    assert f"error: step 4: not finite: {named}" in told and f"the last good checkpoint is {good}" in told
    assert newest_checkpoint(run) == good and not list(run.rglob("step-4*"))
    assert not list(unfinite(read_checkpoint(good)))


def test_where_infinity_has_a_meaning() -> None:
    mask = {"model": {"mask": torch.full((2, 2), -torch.inf).triu(1), "w": torch.ones(2)}}
    allowed = set(unfinite(mask))
    assert allowed == {"model.mask"} and not list(unfinite(mask, allowed))
    mask["model"]["mask"][0, 0] = torch.nan
    assert list(unfinite(mask, allowed)) == ["model.mask"]
    schedule = ReduceLROnPlateau(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)).state_dict()
    assert schedule["best"] == torch.inf and not list(unfinite(schedule))
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.float8_e4m3fn):
        bad, good = torch.tensor([1.0, torch.nan]).to(dtype), torch.ones(2).to(dtype)
        assert list(unfinite([bad, good, good[:0], torch.ones(2, dtype=torch.int64)])) == ["0"], dtype
    assert list(unfinite({"lr": float("nan")})) == ["lr"]


@pytest.mark.parametrize("devices", [1, 2])
def test_an_unfinished_interval_is_saved_where_one_device_has_all_of_it(devices: int, tmp_path: Path) -> None:
    """Of two, the first one's sums would count as those of both."""
    records = MetricLogger(tmp_path, 50, 0, 0.1)
    strategy = SimpleNamespace(broadcast=lambda value: value)
    records.on_fit_start(SimpleNamespace(world_size=devices, is_global_zero=False, strategy=strategy), None)  # type: ignore[arg-type]
    records.sums, records.counts = {"loss": torch.tensor(3.0)}, {"loss": 2}
    assert records.interval() == ({"sums": records.sums, "counts": records.counts} if devices == 1 else {"sums": {}, "counts": {}})


def test_the_first_row_after_a_resume_covers_its_whole_interval(tmp_path: Path) -> None:
    """Saved in the middle of an interval of four steps."""
    every = ["trainer.params.log_every=4", "trainer.params.steps=4", "trainer.params.validate_every=0", "trainer.params.images_every=0"]
    code, whole = train(tmp_path / "whole", *every)
    assert code == 0
    code, again = train(tmp_path / "again", *every)
    checkpoints = again / "checkpoints"
    assert code == 0 and program.main(["--resume", str(checkpoints / "step-2.ckpt"), "--no-check"]) == 0
    assert sum(1 for kind, _ in incidents(again) if kind == "resume") == 1
    a, b = read_series(whole / "metrics.csv"), read_series(again / "metrics.csv")
    assert [step for step, _ in b["loss"]] == [4] and a["loss"] == b["loss"] and a["pixel"] == b["pixel"]


@pytest.mark.parametrize("ends", ["steps", "asked"])
def test_the_last_step_is_saved_before_anybody_looks(ends: str, tmp_path: Path, monkeypatch, capsys) -> None:
    """At the end of all steps, and where a batch system has asked: a validation may take longer than it waits."""
    looked = []

    def look(self, *_: object) -> None:
        (run,) = tmp_path.glob("*_a")
        looked.append(newest_checkpoint(run).name if list(run.glob("checkpoints/*.ckpt")) else "")
        if ends == "asked" and len(looked) == 1:
            os.kill(os.getpid(), signal.SIGTERM)  # heard in the step after this one

    monkeypatch.setattr(ValidationCallback, "run", look)
    steps = [f"trainer.params.{word}" for word in ("steps=4", "checkpoint_every=100", "validate_every=1", "log_every=3")]
    code, run = train(tmp_path, *steps)
    assert code == (130 if ends == "asked" else 0)
    assert looked == (["", "step-2.ckpt"] if ends == "asked" else ["", "", "", "step-4.ckpt"])
    assert read_checkpoint(newest_checkpoint(run))["interval"] == {"sums": {}, "counts": {}}, "the last row is written"
    assert [step for step, _ in read_series(run / "metrics.csv")["loss"]] == ([2] if ends == "asked" else [3, 4])


def test_a_callback_that_ends_a_run_in_the_middle_of_a_step_loses_none_before(tmp_path: Path, monkeypatch, capsys) -> None:
    """As Lightning's Timer does, which looks at the clock after every micro-batch."""

    def ended(self, trainer: Any, module: Any, *_: object) -> None:
        trainer.should_stop = module.step == 2 and module._micro == 1

    words = ["data.params.max_per_device=2", "callbacks.x.target=pytorch_lightning.callbacks.LearningRateMonitor"]
    whole = train(tmp_path / "whole", "trainer.params.checkpoint_every=100", "data.params.max_per_device=2")[1]
    with monkeypatch.context() as patch:
        patch.setattr(LearningRateMonitor, "on_train_batch_end", ended)
        code, run = train(tmp_path, "trainer.params.checkpoint_every=100", *words)
    assert code == 130 and newest_checkpoint(run).name == "step-2.ckpt"
    assert ("stopped", "requested by a callback, and saved") in incidents(run)
    assert program.main(["--resume", str(run)]) == 0
    ours, theirs = (read_checkpoint(folder / "checkpoints" / "step-6.ckpt")["model"] for folder in (run, whole))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
