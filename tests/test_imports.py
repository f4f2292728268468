"""What is imported when: `--help` and wrong flags answer without torch."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from demos.tasks import LONGER, TASKS
from ldm.cli import flags
from ldm.data.masks import Kind
from ldm.diffusion.sampling import SAMPLERS
from ldm.evaluation.extractors import EXTRACTORS
from ldm.evaluation.images import FILTERS
from ldm.evaluation.measures import METRICS
from ldm.evaluation.weightfiles import FOLDER
from ldm.system.threads import WAITING
from paper.reproduce import CPU_SHARE
from paper.user_study import QUESTIONS

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ["main", *sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))]
CALL = """
import os, runpy, sys
for name in ("torch", "pytorch_lightning", "transformers", "torchmetrics", "matplotlib"):
    sys.modules[name] = None
sys.path.insert(0, "scripts")
for name in sys.argv[1:]:
    for word in ("--help", "--no-such-flag"):
        sys.argv = [name, word]
        try:
            runpy.run_module(name, run_name="__main__")
        except SystemExit as error:
            print("answer", name, error.code, os.environ.get("GOMP_SPINCOUNT"), flush=True)
"""


def test_help_and_wrong_flags_answer_without_torch_of_which_the_threads_are_chosen_before() -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", CALL, *PROGRAMS], cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )
    answers = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("answer ")]
    expected = [[name, code, WAITING["GOMP_SPINCOUNT"]] for name in PROGRAMS for code in ("0", "2")]
    assert answers == expected, done.stderr
    assert done.returncode == 0 and "unexpected" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("listed", "known"),
    [
        (flags.SAMPLERS, SAMPLERS),
        (flags.MASKS, get_args(Kind)),
        (flags.METRICS, METRICS),
        (flags.EXTRACTORS, EXTRACTORS),
        (flags.FILTERS, FILTERS),
    ],
    ids=["samplers", "masks", "metrics", "extractors", "filters"],
)
def test_names_that_help_lists_are_those_that_there_are(listed: tuple[str, ...], known: object) -> None:
    assert listed == tuple(known)  # type: ignore[arg-type]


def test_scripts_name_what_there_is(script) -> None:
    tasks, study = script("scripts/demo_tasks.py", "--help").stdout, script("scripts/user_study.py", "--help").stdout
    assert f"(default: {','.join(TASKS)}), or {', '.join(LONGER)}" in " ".join(tasks.split())
    assert "{" + ",".join(sorted(QUESTIONS)) + "}" in study
    assert f"on a GPU, {CPU_SHARE:g} on a CPU" in " ".join(script("scripts/reproduce.py", "--help").stdout.split())
    assert Path(flags.METRIC_WEIGHTS) == FOLDER
