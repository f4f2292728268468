"""The waiting policy of OpenMP's threads is chosen before torch loads, by every program (`test_imports.py`), unless the user chose."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ldm.system.threads import WAITING, set_thread_waiting

ROOT = Path(__file__).resolve().parent.parent


def test_choosing_loads_no_torch_and_reaches_the_environment_of_the_process() -> None:
    code = "import os, sys, ldm.system.threads as t; t.set_thread_waiting(); print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", WAITING["GOMP_SPINCOUNT"]]


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "active"), ("OMP_WAIT_POLICY", "passive"), ("GOMP_SPINCOUNT", "7")])
def test_the_users_choice_stays(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv(name, value)
    set_thread_waiting()
    assert {key: os.environ.get(key) for key in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")} == {
        "OMP_WAIT_POLICY": None,
        "GOMP_SPINCOUNT": None,
        name: value,
    }
