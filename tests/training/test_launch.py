"""Processes that torchrun or srun has started are one run; those that do not come are missed within seconds."""

import csv
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import main as program
from ldm.errors import UserError
from ldm.system.weights import read_checkpoint
from ldm.training import TrainerSettings, launch
from ldm.training.launch import Launch, ProcessGroup, launched

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LDM_RUN_FOLDER")
WORDS = [
    *("-b", "configs/demo/digits-first-stage.yaml", "-t", "model.params.autoencoder.params.width=32", "model.params.scheduler=null"),
    *("data.params.batch_size=4", "model.params.optimizer={target: torch.optim.SGD, partial: true, params: {lr: 0.01}}"),
    "trainer.params={steps: 3, accelerator: cpu, precision: 32-true, log_every: 1, images_every: 0, validate_every: 0}",
]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a launch sets in the environment goes with the test."""
    for name in NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


IN_SALLOC = {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}  # of a process that srun started


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, None),  # a process that Lightning has started
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, Launch("torchrun", 3, 4, 2)),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "bash"}, None),
        ({**IN_SALLOC, "SLURM_JOB_NAME": "interactive"}, Launch("srun", 1, 2, 2)),
        ({**IN_SALLOC, "SLURM_JOB_NAME": "bash", "SLURM_PTY_PORT": "40001"}, None),  # srun -n2 --pty bash
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_ID": "0"}, None),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_NNODES": "2", "SLURM_STEP_ID": "0"}, Launch("srun", 2, 4, 2)),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, Launch("srun", 0, 4, 4, launch.SHORT_TIMEOUT)),
    ],
)
def test_who_has_started_what(environment: dict[str, str], expected: Launch | None) -> None:
    assert launched(environment) == expected


def test_words_for_numbers_are_an_error_of_one_line() -> None:
    with pytest.raises(UserError, match="SLURM_NTASKS"):
        launched({"SLURM_NTASKS": "two"})


def test_machines_with_unlike_numbers_of_processes_are_an_error() -> None:
    with pytest.raises(UserError, match="3 processes on 2 machines"):
        launched({"SLURM_NTASKS": "3", "SLURM_NNODES": "2"})


def test_the_number_of_processes_is_the_launcher_s(monkeypatch, clean) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for devices in ("auto", 1, [0, 1]):
        settings = TrainerSettings(1, devices=devices, accelerator="cpu")
        assert (settings.device_count(), settings.node_count(), settings.world_size()) == (2, 2, 4)
    assert settings.trainer_devices() == 2 and TrainerSettings(1, accelerator="cpu").trainer_devices() == 2
    assert TrainerSettings(1, devices=[0, 1], accelerator="cuda").trainer_devices() == [0, 1]


def test_tasks_that_nobody_started_are_missed_and_nothing_is_written(monkeypatch, clean, capsys, tmp_path: Path, root: Path) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr(launch, "SHORT_TIMEOUT", 0.3)
    for name, value in (("NTASKS", "3"), ("PROCID", "0"), ("LOCALID", "0"), ("NODEID", "0"), ("JOB_ID", str(40000 + os.getpid() % 10000))):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert program.main([*WORDS, "-l", str(tmp_path / "logs")]) == 2
    said = capsys.readouterr().err
    assert "2 of the 3 processes (SLURM_NTASKS) did not start" in said and "srun python main.py" in said
    assert said.count("\n") == 1 and not (tmp_path / "logs").exists()


@pytest.fixture
def two(monkeypatch, clean) -> list[ProcessGroup]:
    """Two processes of a run, here two threads."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(20000 + os.getpid() % 20000))
    found: list[ProcessGroup] = []
    other = threading.Thread(target=lambda: found.append(ProcessGroup(Launch("torchrun", 1, 2, 2))))
    other.start()
    first = ProcessGroup(Launch("torchrun", 0, 2, 2))
    other.join()
    return [first, *found]


def test_the_first_process_decides_for_all(two: list[ProcessGroup]) -> None:
    two[0].announce("logs/here")
    assert two[1].wait() == "logs/here"


def test_where_the_first_process_ends_the_others_do_in_silence(two: list[ProcessGroup], monkeypatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(UserError), two[0].propagating_exit():
        raise UserError("the config is wrong")
    with pytest.raises(SystemExit) as ended:
        two[1].wait()
    assert ended.value.code == 2


def torchrun(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={21000 + os.getpid() % 20000}"]
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, "main.py", *map(str, words)], env=environment, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.mark.slow
def test_torchrun_is_one_run_with_two_processes(tmp_path: Path, monkeypatch, root: Path) -> None:
    """The same global batch: the losses and weights are those of one process, and one folder is written."""
    monkeypatch.chdir(root)
    done = torchrun(*WORDS, "-l", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("run folder:") == 1 and done.stderr.count("done. Weights") == 1, done.stderr
    assert program.main([*WORDS, "-l", str(tmp_path / "one")]) == 0
    (two,), (one,) = (tmp_path / "two").iterdir(), (tmp_path / "one").iterdir()
    ours, theirs = (read_checkpoint(run / "checkpoints" / "step-3.ckpt")["model"] for run in (two, one))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=1e-3, msg=name)
    rows = [list(csv.DictReader((run / "metrics.csv").read_text().splitlines())) for run in (two, one)]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]] == ["1", "2", "3"]
    assert (two / "base.yaml").is_file() and not (two / "incidents.jsonl").exists()


@pytest.mark.slow
def test_an_error_under_torchrun_is_told_once(tmp_path: Path, monkeypatch, root: Path) -> None:
    monkeypatch.chdir(root)
    done = torchrun(*WORDS, "-l", tmp_path / "logs", "data.params.batch_size=5")
    assert done.returncode != 0 and done.stderr.count("is not divisible by 2 devices") == 1, done.stderr
    assert not (tmp_path / "logs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["SIGKILL", "fault"])
def test_the_end_of_one_process_ends_all_and_is_told_once(victim: str, tmp_path: Path, root: Path) -> None:
    """Of two that Lightning started: killed, it says nothing itself; with an error of its own, it is the one that speaks."""
    faulty = tmp_path / "faulty.py"
    faulty.write_text(
        "import os, signal, sys\nfrom ldm.cli.main import main\nfrom ldm.training import AutoencoderTraining as A\n"
        "step = A.training_step\n"
        "def failing(self, *given):\n"
        "    if self.step == 2 and self.global_rank == 1:\n"
        f"        {'os.kill(os.getpid(), signal.SIGKILL)' if victim == 'SIGKILL' else 'raise RuntimeError(str(7 * 6))'}\n"
        "    return step(self, *given)\nA.training_step = failing\nsys.exit(main())\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | {"PYTHONPATH": str(root)}
    words = [
        *WORDS,
        "trainer.params.checkpoint_every=1",
        "trainer.params.steps=1000",
        "trainer.params.devices=2",
        "-l",
        str(tmp_path / "logs"),
    ]
    command = [sys.executable, str(faulty), *words]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=900, check=False)
    says = "another process of this run ended without a message" if victim == "SIGKILL" else "RuntimeError: 42"
    assert done.returncode == 2 and done.stderr.count("error: ") == 1 and f"error: step 2: {says}" in done.stderr, done.stderr
    assert "continue from step 2 with" in done.stderr and "Traceback" not in done.stderr
    (run,) = (tmp_path / "logs").iterdir()
    incidents = (run / "incidents.jsonl").read_text().splitlines()
    assert len(incidents) == 1 and says in incidents[0]


def test_a_slip_in_the_number_of_processes_is_not_tried_out() -> None:
    with pytest.raises(UserError, match="100000 processes on a CPU are requested, at most 512"):
        TrainerSettings(steps=1, accelerator="cpu", devices=100000).require_device()


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_starts_is_told_like_any_other(tmp_path: Path, root: Path) -> None:
    """Lightning's own watch would kill all of them, with the one that speaks."""
    killed = tmp_path / "killed.py"
    killed.write_text(
        "import os, signal, sys\n"
        "if os.environ.get('LOCAL_RANK') == '1':\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "from ldm.cli.main import main\nfrom ldm.training.callbacks import child_processes\n"
        "child_processes.HANG = 3.0\nsys.exit(main())\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | {"PYTHONPATH": str(root)}
    command = [sys.executable, str(killed), *WORDS, "trainer.params.devices=2", "-l", str(tmp_path / "logs")]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 2 and done.stderr.count("error: ") == 1, (done.returncode, done.stderr)
    assert "error: step 0: another process of this run ended without a message" in done.stderr and "nothing was saved yet" in done.stderr
    (run,) = (tmp_path / "logs").iterdir()
    (incident,) = (run / "incidents.jsonl").read_text().splitlines()
    assert "ended without a message" in incident
