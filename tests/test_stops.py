"""What asks a command to stop reaches its main process alone, and a second request counts only where it is meant."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from ldm.data.loader import Loader
from ldm.system import signals as stops

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals of this kind are POSIX")


class Numbers(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 200

    def __getitem__(self, index: int) -> int:
        return index


def test_a_loader_s_worker_ignores_all_that_asks_to_stop_and_ends_when_the_loader_says_so() -> None:
    batches = iter(Loader(Numbers(), batch_size=1, num_workers=1))
    (worker,) = batches._workers
    found = [int(next(batches))]
    for number in stops.STOPS:  # at once: nothing waits for the worker to be ready
        os.kill(worker.pid, number)
    found += [int(next(batches)) for _ in range(100)]
    assert found == list(range(101)) and worker.is_alive()
    worker.terminate()  # as torch does with one that hangs
    try:
        worker.join(30)
    except RuntimeError:  # torch's own watch, where it comes first
        worker.join(30)
    assert worker.exitcode == -signal.SIGKILL


def test_signals_wait_while_processes_start() -> None:
    heard: list[int] = []
    with stops.signals_handled(lambda number, _: heard.append(number)):
        with stops.signals_blocked():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)  # other tests have left threads that would take it
            time.sleep(0.01)
            while_starting = list(heard)
        time.sleep(0.01)
    assert not while_starting and heard == [signal.SIGTERM]


@pytest.mark.parametrize("number", stops.STOPS)
def test_every_request_interrupts_once_and_handlers_come_back(number: int) -> None:
    before = {n: signal.getsignal(n) for n in stops.STOPS}
    reached = 0
    with pytest.raises(KeyboardInterrupt), stops.interrupting():
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        finally:  # as `timeout` repeats itself: cleaning up goes on
            os.kill(os.getpid(), number)
            reached = 1
    assert reached and {n: signal.getsignal(n) for n in stops.STOPS} == before


def test_nohup_stays_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stops.signals_handled(lambda *_: None):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    "signals,is_second",
    [
        ([(0.0, signal.SIGINT), (0.1, signal.SIGINT)], False),  # a wrapper passes on what the terminal has sent already
        ([(0.0, signal.SIGINT), (5.0, signal.SIGINT)], True),
        ([(0.0, signal.SIGTERM), (5.0, signal.SIGTERM)], False),
        ([(0.0, signal.SIGTERM), (5.0, signal.SIGHUP)], False),
        ([(0.0, signal.SIGTERM), (5.0, signal.SIGINT)], True),
    ],
)
def test_who_asks_twice(signals: list[tuple[float, int]], is_second: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = stops.StopRequests()
    said = []
    for at, number in signals:
        monkeypatch.setattr(stops.time, "monotonic", lambda at=at: 100 + at)
        said.append(requests.is_second(number))
    assert said == [False, is_second] and requests.name == signal.Signals(signals[0][1]).name


def test_outside_the_main_thread_nothing_is_installed() -> None:
    done = []

    def work() -> None:
        with stops.interrupting():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


def test_a_second_request_while_python_leaves_does_not_change_the_exit_code() -> None:
    """As of a service manager, which sends SIGHUP after SIGTERM; leaving takes torch a moment."""
    code = "import atexit, os, signal, sys, time\nfrom ldm.system import signals\n"
    code += "atexit.register(os.kill, os.getpid(), signal.SIGHUP)\n"
    code += "try:\n    with signals.interrupting():\n        os.kill(os.getpid(), signal.SIGTERM)\n        time.sleep(30)\n"
    code += "except KeyboardInterrupt:\n    sys.exit(130)\n"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 130
