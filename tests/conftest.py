"""Shared by all tests: no network, few threads, the repository's root."""

import importlib.util
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from programs import Programs

ROOT = Path(__file__).resolve().parent.parent
# Networks are tiny here, and the second core runs other tests (make test: pytest -n 2); programs that tests start inherit it.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub reads it, once: it retries for half a minute where no network is


LONG = ("test_runs.py", "test_readme.py", "test_task_data.py", "test_tasks.py", "test_demo_tasks.py", "test_demo_measures.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: two processes take whole files, and neither should wait at the end for one that the other has begun."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection but to this machine is an error: tests must not depend on what is out there."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        local = not isinstance(address, tuple) or str(address[0]) in ("localhost", "127.0.0.1", "::1") or str(address[0]).startswith("127.")
        if not local:
            raise OSError(f"a test tried to reach {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def root() -> Path:
    return ROOT


PROGRAMS = Programs()


@pytest.fixture(scope="session")
def programs() -> Programs:
    """Starts programs without the time that their imports take."""
    return PROGRAMS


@pytest.fixture
def run():
    """Run a Python program of the repository; returns the finished process with its output as text. A new interpreter with `env`."""

    def call(*words: object, env: dict[str, str] | None = None, cwd: Path = ROOT, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", **(env or {})}
        if env is None and str(words[0]).endswith(".py"):
            return PROGRAMS.run(words, cwd=cwd, env=environment, timeout=timeout)
        return subprocess.run(
            [sys.executable, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    return call


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str]):
    """Call a script's main in this process, as its command line would: what comes back looks like a finished process."""

    def call(path: str, *words: object) -> subprocess.CompletedProcess[str]:
        from ldm.cli import run_script

        spec = importlib.util.spec_from_file_location("script", ROOT / path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        try:
            code = run_script(module.main, [str(w) for w in words])
        except SystemExit as error:
            code = int(error.code or 0)
        finally:
            logging.disable(logging.NOTSET)  # a script may want less to be said, to its end
        captured = capsys.readouterr()
        return subprocess.CompletedProcess([path], code, captured.out, captured.err)

    return call
