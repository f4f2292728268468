"""One owner of a folder at a time, named; the lock goes with its owner, whatever that leaves running."""

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ldm.errors import UserError
from ldm.system import lock

pytestmark = pytest.mark.skipif(lock.fcntl is None, reason="needs POSIX locks")


def owning(folder: Path, more: str = "") -> "subprocess.Popen[str]":
    """A process that holds the lock of a folder."""
    code = "import os, sys, time\nfrom pathlib import Path\nfrom ldm.system.lock import locked\n"
    code += f"with locked(Path({str(folder)!r}), 'x'):\n    {more}\n    print(flush=True)\n    time.sleep(60)\n"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_the_owner_is_named_and_its_death_frees_the_folder_though_its_worker_lives(tmp_path: Path) -> None:
    """A loader's worker notices the death of a killed process seconds later, and a requeued job is there before."""
    worker = "worker = os.fork(); worker or time.sleep(20); print(worker)"
    process = owning(tmp_path, worker)
    try:
        with (
            pytest.raises(UserError, match=rf"RUN: another command \(process {process.pid} on .*\) is running there"),
            lock.locked(tmp_path, "RUN"),
        ):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with lock.locked(tmp_path, "RUN"):
        assert (tmp_path / ".lock").read_text().split()[0] == str(os.getpid())


def test_a_refused_command_leaves_the_owner_its_name(tmp_path: Path) -> None:
    with lock.locked(tmp_path, "RUN"):
        for _ in range(2):
            with pytest.raises(UserError, match=f"process {os.getpid()} on"), lock.locked(tmp_path, "RUN"):
                pass
    with lock.locked(tmp_path, "RUN"):
        pass


def test_a_file_system_without_locks_is_said_and_not_in_the_way(tmp_path: Path, monkeypatch, caplog) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with caplog.at_level(logging.WARNING), lock.locked(tmp_path, "RUN"):
        pass
    assert [record.getMessage() for record in caplog.records] == [
        "RUN: cannot be locked (No locks available): make sure that no other command writes there"
    ]


def test_a_lock_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    """A run folder may be a stranger's; what a resumed run writes lies inside it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=r"run/\.lock: cannot be written"), lock.locked(tmp_path / "run", "RUN"):
        pass
    assert (tmp_path / "precious").read_text() == "mine"
