"""Programs of this repository as processes of their own, forked from one that has imported what they import.

A test that starts `main.py` would otherwise wait for torch and Lightning to be imported, which takes longer than most of what is tested.
Import times, and environment variables that are read while importing, need a new interpreter: `subprocess`.
"""

import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

ROOT = Path(__file__).resolve().parent.parent
IMPORTED = (
    "scipy.stats",
    "matplotlib.pyplot",
    "pytorch_lightning",
    "ldm.cli.train",
    "ldm.cli.job",
    "ldm.cli.measuring",
    "ldm.cli.pictures",
)
LARGEST = 1 << 17  # bytes of a request


class Program:
    """A running program, with what is used of `subprocess.Popen`."""

    def __init__(self, server: socket.socket, request: Mapping[str, Any], files: Sequence[int]) -> None:
        self.args: Sequence[str] = request["words"]
        self.returncode: int | None = None
        self._status, theirs = os.pipe()
        socket.send_fds(server, [json.dumps(request).encode()], [*files, theirs])
        os.close(theirs)
        self.pid = int(server.recv(64))

    def poll(self, timeout: float = 0) -> int | None:
        """The exit code, minus the number of the signal that ended it, or None while it runs."""
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = int(os.read(self._status, 16))
            os.close(self._status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its exit code."""
        code = self.poll(timeout)  # type: ignore[arg-type]
        if code is None:
            raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Programs:
    """Starts programs; the process that they are forked from starts with the first of them and ends with this one."""

    def __init__(self) -> None:
        self.server: socket.socket | None = None

    def start(
        self,
        words: Sequence[object],
        *,
        cwd: Path = ROOT,
        env: Mapping[str, str] = os.environ,
        stdout: Any = sys.__stdout__,
        stderr: Any = sys.__stderr__,
    ) -> Program:
        """Start a program: its .py file, then its arguments."""
        if self.server is None:
            self.server, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs, open(os.devnull, "r+b") as null:
                command = [sys.executable, __file__, str(theirs.fileno())]
                subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=null, stdout=null)
        request = {"words": [str(word) for word in words], "env": dict(env), "cwd": str(cwd)}
        return Program(self.server, request, [stdout.fileno(), stderr.fileno()])

    def Popen(self, command: Sequence[str], cwd: Path) -> Program:  # noqa: N802
        """In the place of `subprocess.Popen`, for a command that begins with this interpreter."""
        return self.start(command[1:], cwd=cwd)

    def start_and_read(self, words: Sequence[object], stream: Literal["stdout", "stderr"]) -> tuple[Program, TextIO]:
        """Start a program, of which one stream is read while it runs."""
        ours, theirs = os.pipe()
        with open(theirs, "w") as file:
            return self.start(words, **{stream: file}), open(ours)  # noqa: SIM115

    def run(
        self, words: Sequence[object], *, cwd: Path = ROOT, env: Mapping[str, str] = os.environ, timeout: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, with its output as text."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            program = self.start(words, cwd=cwd, env=env, stdout=out, stderr=err)
            try:
                code = program.wait(timeout)
            finally:
                program.kill()
            texts = [file.seek(0) or file.read() for file in (out, err)]
        return subprocess.CompletedProcess(list(program.args), code, *texts)


def serve(requests: socket.socket) -> None:
    """Fork a process for each request; returns in that process, ready to run its program."""
    running: dict[int, int] = {}

    def ended(*_: Any) -> None:
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with open(running.pop(pid), "wb", buffering=0) as pipe:
                pipe.write(str(os.waitstatus_to_exitcode(status)).encode())

    signal.signal(signal.SIGCHLD, ended)
    while True:
        message, files, _, _ = socket.recv_fds(requests, LARGEST, 3)
        if not message:
            sys.exit()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        if pid := os.fork():
            running[pid] = files.pop()
            for file in files:
                os.close(file)
            requests.send(str(pid).encode())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        requests.close()
        for number, file in enumerate(files[:2], start=1):
            os.dup2(file, number)
        for file in [*files, *running.values()]:
            os.close(file)
        become(**json.loads(message))
        return


def become(words: list[str], env: dict[str, str], cwd: str) -> None:
    """Take on the arguments, the environment and the folder of a program, in a process group of its own."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = words
    sys.path[0] = str(Path(words[0]).parent.resolve())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for module in IMPORTED:
        importlib.import_module(module)
    serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_path(sys.argv[0], run_name="__main__")
