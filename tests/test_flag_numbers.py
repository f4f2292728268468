"""Every number of every script has an upper bound: a digit too many is a message, and nothing is built or loaded."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from ldm.cli import Parser
from ldm.config.overrides import home
from ldm.ranges import integer

SCRIPTS = sorted(path.name for path in (Path(__file__).parent.parent / "scripts").glob("*.py"))
NOT_NUMBERS = (None, Path, str, home)


def numeric(name: str, script: Any, monkeypatch: pytest.MonkeyPatch) -> list[argparse.Action]:
    """The actions of a script's parser that take a number."""
    found: list[argparse.ArgumentParser] = []

    def caught(self: Parser, *_: Any) -> None:
        found.append(self)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Parser, "parse_args", caught)
        patch.setattr(Parser, "parse_intermixed_args", caught)
        script(f"scripts/{name}")
    return [action for action in found[0]._actions if action.option_strings and action.type not in NOT_NUMBERS]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_number_of_a_script_is_bounded(name: str, script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for action in numeric(name, script, monkeypatch):
        values = ["9" * 20] * (action.nargs if isinstance(action.nargs, int) else 1)
        done = script(f"scripts/{name}", action.option_strings[0], *values)
        assert done.returncode == 2 and f"argument {'/'.join(action.option_strings)}: " in done.stderr, done.stderr
        assert "999: expected " in done.stderr and "at most" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_the_walk_above_finds_the_numbers(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {flag for action in numeric("sample.py", script, monkeypatch) for flag in action.option_strings}
    assert {"--height", "--n", "--batch", "--steps", "--seed", "--scale", "--processes", "--window", "--guidance-interval"} <= found


def test_sides_have_a_bound_of_their_own_and_seeds_none_that_is_felt(script: Any, tmp_path: Path) -> None:
    assert "expected at most 32768" in script("scripts/sample.py", tmp_path, "--height", 40000).stderr
    assert "no such file" in script("scripts/sample.py", tmp_path / "none", "--seed", 2**62, "--height", 32768).stderr


def test_numbers_of_a_config_have_one_too() -> None:
    with pytest.raises(ValueError, match="width must be at most 2147483647"):
        integer(width=2**31)
