"""Signals that request a stop: the main process of a command handles them, its worker processes ignore them."""

import atexit
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("SIGINT", "SIGBREAK", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU")  # terminals, services, batch systems
STOPS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
KEYBOARD = ("SIGINT", "SIGBREAK", "SIGQUIT")
TWICE = 0.5  # seconds: `timeout`, terminals and launchers send one request to both the process and its group


class StopRequests:
    """Distinguishes the first request to stop from a deliberate second one.

    Only the keyboard counts as a second request: batch systems and service managers repeat signals, and want the work saved anyway.
    """

    def __init__(self) -> None:
        self.name = ""  # of the first signal
        self.at = 0.0

    def is_second(self, number: int) -> bool:
        """Record a signal; returns whether to stop at once."""
        if not self.name:
            self.name, self.at = signal.Signals(number).name, time.monotonic()
            atexit.register(ignore_stop_signals)  # a repeated signal while Python exits must not change the exit code
            return False
        return signal.Signals(number).name in KEYBOARD and time.monotonic() - self.at > TWICE


@contextmanager
def signals_handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Call `handler` for every signal that requests a stop; no effect outside the main thread, where Python does not allow it."""
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                # Ignored signals stay ignored, as needed by `nohup`; except SIGINT, which a shell ignores for jobs started with `&`.
                if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGINT:
                    before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


@contextmanager
def interrupting() -> Iterator[None]:
    """Let every signal that requests a stop raise KeyboardInterrupt, like Ctrl-C: once, and again for a second Ctrl-C."""
    requests = StopRequests()

    def stop(number: int, frame: Any) -> None:
        first = not requests.name
        if requests.is_second(number) or first:
            raise KeyboardInterrupt

    with signals_handled(stop):
        yield


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Processes started inside ignore requests to stop from the start; in this process, a signal is delayed until the block ends, unless
    another thread receives it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_stop_signals(*_: Any) -> None:
    """Ignore requests to stop in a worker process: its parent decides.

    Arguments are ignored, so that a loader can call it in its workers.
    """
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
