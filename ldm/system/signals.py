"""Signals that ask a command to stop: its main process answers them, the processes that work for it do not hear them."""

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
TWICE = 0.5  # seconds: `timeout`, terminals and launchers send one request to the process and to its group


class Requests:
    """Tells the first request to stop from a second one that is meant.

    Only the keyboard asks a second time: batch systems and service managers repeat themselves, and want the work saved all the same.
    """

    def __init__(self) -> None:
        self.name = ""  # of the first signal
        self.at = 0.0

    def insists(self, number: int) -> bool:
        """Take note of a signal; whether its sender wants the end now."""
        if not self.name:
            self.name, self.at = signal.Signals(number).name, time.monotonic()
            atexit.register(leave_to_parent)  # one that is repeated while Python leaves no longer changes the exit code
            return False
        return signal.Signals(number).name in KEYBOARD and time.monotonic() - self.at > TWICE


@contextmanager
def answered(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Call `handler` for every signal that asks to stop; outside the main thread, where Python allows none, nothing changes."""
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                # What the caller ignores stays ignored: `nohup` lives on that. But a SIGINT sent to a job behind a shell's `&` is meant.
                if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGINT:
                    before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


@contextmanager
def interrupting() -> Iterator[None]:
    """Let every signal that asks to stop raise KeyboardInterrupt, as Ctrl-C does: once, and again for a keyboard that insists."""
    requests = Requests()

    def stop(number: int, frame: Any) -> None:
        first = not requests.name
        if requests.insists(number) or first:
            raise KeyboardInterrupt

    with answered(stop):
        yield


@contextmanager
def unheard() -> Iterator[None]:
    """Processes that start inside hear no request to stop, from their first moment on; here, one waits until the block ends,
    unless another thread of this process takes it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_parent(*_: Any) -> None:
    """Ignore, in a process that works for another one, what asks to stop: that one decides.

    Takes and ignores arguments, so that a loader can call it in its workers.
    """
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
