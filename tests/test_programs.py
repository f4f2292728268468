"""Programs that tests start behave as those that a terminal starts."""

import os
import signal
from pathlib import Path

from programs import Programs

PROGRAM = """
import os, pathlib, sys
import torch
print(__name__, sys.argv[1:], pathlib.Path.cwd().name, os.environ["OWN"], len(sys.modules) > 1000)
sys.exit({"text": "told", "none": None, "three": 3}[sys.argv[1]]) if sys.argv[1] != "wait" else os.read(os.open("fifo", os.O_RDWR), 1)
"""


def test_they_end_as_they_say_and_as_they_are_told(programs: Programs, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    os.mkfifo(tmp_path / "fifo")
    env = {**os.environ, "OWN": "its own"}
    for word, code, told in (("text", 1, "told\n"), ("none", 0, ""), ("three", 3, "")):
        done = programs.run([program, word], cwd=tmp_path, env=env)
        assert (done.returncode, done.stderr) == (code, told)
        assert done.stdout == f"__main__ ['{word}'] {tmp_path.name} its own True\n"
    failed = programs.run([program, "unknown"], cwd=tmp_path, env=env)
    assert failed.returncode == 1 and "KeyError: 'unknown'" in failed.stderr
    with open(os.devnull, "wb") as null:
        waiting = programs.start([program, "wait"], cwd=tmp_path, env=env, stdout=null, stderr=null)
    assert waiting.poll() is None
    waiting.kill()
    assert waiting.wait(60) == -signal.SIGKILL == waiting.poll()
