"""Whatever ends a run: one line, the exit code, an incident, what Python said in a file, and the command that continues it."""

import errno
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import main as program
from ldm.errors import MissingFile, UserError
from ldm.system import signals as stops
from ldm.training import AutoencoderTraining
from ldm.training.callbacks import child_processes
from ldm.training.callbacks.failures import reporting_failures
from ldm.training.callbacks.incidents import Incidents
from ldm.training.run import new_folder

TINY = [
    "model.params.autoencoder.params.width=32",
    "model.params.scheduler=null",
    "data.params.batch_size=4",
    "trainer.params={steps: 1000, accelerator: cpu, precision: 32-true, validate_every: 0, images_every: 0, checkpoint_every: 2}",
]
CPU = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."


def raising(error: BaseException) -> Callable[[], None]:
    def fault() -> None:
        raise error

    return fault


def kill_a_loader() -> None:
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
    time.sleep(30)  # what torch has to say interrupts this


def press_ctrl_c_twice() -> None:
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)


FAULTS = [
    (raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")), 2, "set data.params.max_per_device below 4"),
    (raising(MemoryError()), 2, "out of memory at step 3: set data.params.max_per_device below 4 (the global batch stays 4)"),
    (raising(RuntimeError(CPU)), 2, "out of memory at step 3"),
    (raising(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))), 2, "out of memory at step 3"),
    (
        raising(RuntimeError("The size of tensor a must match\nmore")),
        2,
        "step 3: RuntimeError: The size of tensor a must match (more",
    ),
    (raising(KeyError("image")), 2, "step 3: KeyError: 'image' (more in"),
    (raising(AssertionError()), 2, "step 3: AssertionError"),
    (raising(UserError("what to do")), 2, "error: what to do; continue"),
    (raising(MissingFile("what to get")), 3, "error: what to get; continue"),
    (kill_a_loader, 2, "is killed by signal: Killed, as happens without enough memory: set data.params.workers below 1"),
    (press_ctrl_c_twice, 130, "stopped at once, at step 3; continue"),
]


@pytest.mark.parametrize(("fault", "code", "says"), FAULTS, ids=[says[:40] for _, _, says in FAULTS])
def test_an_end_is_told_once(fault, code: int, says: str, monkeypatch, capsys, tmp_path: Path, root: Path) -> None:
    step = AutoencoderTraining.training_step

    def faulty(self, *given):
        if self.step == 3:
            fault()
        return step(self, *given)

    monkeypatch.chdir(root)
    monkeypatch.setattr(AutoencoderTraining, "training_step", faulty)
    monkeypatch.setattr(stops, "TWICE", 0.0)
    workers = [f"data.params.workers={int(fault is kill_a_loader)}"]
    got = program.main(["-b", "configs/demo/digits-first-stage.yaml", "-t", "-l", str(tmp_path), *TINY, *workers])
    said = capsys.readouterr().err
    (run,) = tmp_path.iterdir()
    assert got == code and says in said and "Traceback" not in said, said
    assert f"; continue from step 2 with\n  python main.py --resume {run}\n" in said
    incident = json.loads((run / "incidents.jsonl").read_text().splitlines()[-1])
    assert incident["step"] == 3 and incident["kind"] == ("stopped" if code == 130 else "ended")
    assert incident["what"] in said and "\n" not in incident["what"]
    python = list(run.glob("error-step-3.txt"))
    assert len(python) == (says[:3] != "err" and code != 130), "what was not foreseen has its trace in the folder"
    assert all("Traceback" in path.read_text() and "test_endings.py" in path.read_text() for path in python if fault is not kill_a_loader)


def test_a_run_has_one_owner(monkeypatch, capsys, tmp_path: Path, root: Path) -> None:
    """While it trains, a second --resume is refused by name and changes nothing; looking is allowed, and afterwards all is."""
    monkeypatch.chdir(root)
    refused = []

    def second(run: Path, *more: str) -> tuple[int, str]:
        code = program.main(["--resume", str(run), *more])
        return code, capsys.readouterr().err

    step = AutoencoderTraining.training_step

    def curious(self, *given):
        if self.step == 2 and not refused:
            (run,) = tmp_path.iterdir()
            before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"}
            refused.append(second(run))
            refused.append(second(run, "--print-config"))
            assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"} == before
        return step(self, *given)

    monkeypatch.setattr(AutoencoderTraining, "training_step", curious)
    words = ["-b", "configs/demo/digits-first-stage.yaml", "-t", "-l", str(tmp_path), *TINY, "trainer.params.steps=3"]
    assert program.main(words) == 0
    (run,) = tmp_path.iterdir()
    (code, said), (looked, _) = refused
    assert code == 2 and f"--resume {run}: another command (process {os.getpid()} on " in said and "is running there" in said
    assert looked == 0
    assert second(run, "trainer.params.steps=4")[0] == 0 and (run / "checkpoints" / "step-4.ckpt").is_file()


def test_runs_that_begin_at_once_have_folders_of_their_own(tmp_path: Path) -> None:
    assert len({new_folder(tmp_path, "same") for _ in range(5)}) == 5 == len(list(tmp_path.iterdir()))


def test_an_end_before_anything_is_saved(monkeypatch, capsys, tmp_path: Path, root: Path) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr(AutoencoderTraining, "training_step", lambda *_: raising(RuntimeError("so it is"))())
    assert program.main(["-b", "configs/demo/digits-first-stage.yaml", "-t", "-l", str(tmp_path), *TINY]) == 2
    said = capsys.readouterr().err
    assert (
        "step 0: RuntimeError: so it is (more in" in said and said.rstrip().endswith("; nothing was saved yet") and "--resume" not in said
    )


def test_a_process_that_waits_for_a_killed_one_says_so_and_ends(monkeypatch, capsys, tmp_path: Path) -> None:
    """Where the wait for a device never ends, as NCCL's does, only a thread is left to speak."""

    class Killed:
        def poll(self, timeout: float = 0.0) -> int:
            return -signal.SIGKILL

        wait = poll

    class Left(Exception):
        pass

    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(child_processes, "HANG", 0.0)
    monkeypatch.setattr(os, "_exit", leave)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-4.ckpt").touch()
    company, incidents = child_processes.ChildProcesses(tmp_path), Incidents(tmp_path)
    company.children = [Killed()]  # type: ignore[list-item]
    trainer, module = SimpleNamespace(is_global_zero=True, world_size=2), SimpleNamespace(step=5)
    with reporting_failures(trainer, incidents, module, None, "python main.py --resume RUN", company), pytest.raises(Left, match="2"):
        company._watch()
    said = capsys.readouterr().err
    assert said.startswith("error: step 5: another process of this run ended without a message")
    assert "; continue from step 4 with\n  python main.py --resume RUN\n" in said and said.count("error: ") == 1
    (incident,) = (tmp_path / "incidents.jsonl").read_text().splitlines()
    assert json.loads(incident)["kind"] == "ended" and "without a message" in incident
