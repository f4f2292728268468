"""What nobody expects ends a command in one line with exit code 2, before training and in scripts; Python's trace is in a file."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import main as program
from ldm.cli import run_script
from ldm.config import AllowedTargets, build
from ldm.errors import UserError
from ldm.system import processes

CPU = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: 9 bytes.\nframe #0: c10"
NO_MEMORY = [RuntimeError(CPU), MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")]
CONFIG = ["-b", "configs/demo/digits-first-stage.yaml", "-t", "--no-check"]


def in_main(error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr("ldm.cli.train.prepare_weights", fails)
    return program.main([*CONFIG, "-l", str(tmp_path / "logs")])


def in_a_script(error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    def fails(_: list[str] | None) -> int:
        raise error

    return run_script(fails, [])


@pytest.mark.parametrize("command", [in_main, in_a_script])
@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
def test_memory_that_does_not_suffice_gets_advice(command: Callable[..., int], error: Exception, monkeypatch, tmp_path, capsys) -> None:
    assert command(error, monkeypatch, tmp_path) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: out of memory: ") and ("smaller model" in line or "--batch" in line) and "frame" not in line
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("command", [in_main, in_a_script])
def test_a_fault_of_the_program_is_one_line_that_names_its_trace(command: Callable[..., int], monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert command(RuntimeError("no such thing\nand more"), monkeypatch, tmp_path) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and "and more" not in said
    named = re.search(r"error: unexpected RuntimeError: no such thing: .* (\S+ldm-error-\S+\.txt)$", said.strip().splitlines()[-1])
    assert named is not None and Path(named[1]).parent == tmp_path
    assert "Traceback" in Path(named[1]).read_text() and "and more" in Path(named[1]).read_text()


def test_a_part_that_memory_does_not_hold_is_named() -> None:
    node = {"target": "ldm.nn.Downsample", "params": {"channels": 1 << 22}}
    with pytest.raises(UserError, match="^x: ldm.nn.Downsample: not enough memory to build it") as found:
        build(node, AllowedTargets(), "x")
    assert "\n" not in str(found.value)


class Odd(Exception):
    """One that cannot be sent: pickle would call its constructor with the message."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def unlucky(kind: str) -> None:
    raise Odd(1, 2) if kind == "odd" else KeyError(kind)


@pytest.mark.parametrize(("kind", "raised"), [("plain", "KeyError"), ("odd", "RuntimeError")])
def test_a_fault_in_one_of_several_processes_reaches_the_command(kind: str, raised: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((KeyError, RuntimeError)) as found:
        processes.run_processes(unlucky, [(kind,)])
    assert type(found.value).__name__ == raised and ("Odd: 1 and 2" in str(found.value)) == (kind == "odd")
    assert "Traceback" not in capfd.readouterr().err
