"""A config in a file may name any size: whether the weights fit is known before memory is taken, and is one line."""

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ldm.cli.main import main
from ldm.system.run_folder import newest_checkpoint, newest_weights
from ldm.system.weights import read_checkpoint, save_pickled

RUNS = Path(__file__).parent / "fixtures" / "runs"
WIDE = 100_000  # a convolution of it holds 360 GB


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(RUNS, tmp_path / "runs", symlinks=True)
    monkeypatch.chdir(tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """An allocation of many gigabytes fails at once, as without it a system may only kill the process that uses them."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 30), before[1]))
    monkeypatch.setattr("ldm.errors.NO_MEMORY", ())  # what memory lacks is not what the message is to say
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def widened(run: Path, part: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Name another width in the header of a run's weights; `part` finds the parameters in the config."""
    file = newest_weights(run)
    with safe_open(file, "pt") as opened:
        tensors, header = {name: opened.get_tensor(name) for name in opened.keys()}, dict(opened.metadata())  # noqa: SIM118
    config = json.loads(header["config"])
    part(config["model"]["params"])["width"] = WIDE
    file.unlink()
    save_file(tensors, file, {**header, "config": json.dumps(config)})


FITS = "does not fit the config: "
WIDER = {
    "network": ("class", lambda p: p["model"]["params"]["network"]["params"], FITS),
    "conditioner": ("text", lambda p: p["model"]["params"]["conditioner"]["params"], "context_channels is 8, but the conditioner gives"),
    "first stage": ("class", lambda p: p["model"]["params"]["first_stage"]["params"]["model"]["params"], f"{FITS}width is 4 in the file"),
}
SAMPLE = ["--n", 1, "--device", "cpu", "--outdir", "out"]


@pytest.mark.parametrize(("kind", "part", "said"), WIDER.values(), ids=WIDER)
@pytest.mark.usefixtures("little_memory")
def test_of_a_model_to_sample_from(kind: str, part: Any, said: str, runs: Path, script: Any) -> None:
    widened(runs / kind, part)
    done = script("scripts/sample.py", kind, *SAMPLE)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.usefixtures("little_memory")
def test_of_a_first_stage_and_of_a_classifier(runs: Path, script: Any) -> None:
    widened(runs / "vq", lambda p: p["autoencoder"]["params"])
    widened(runs / "classifier", lambda p: p["classifier"]["params"])
    for words in (
        ["scripts/reconstruct.py", "vq", "vq/config.yaml", "--n", 1, "--device", "cpu"],
        ["scripts/convert.py", "vq/checkpoints/step-4.ema.safetensors", "out", "--to", "diffusers"],
        ["scripts/sample.py", "class", *SAMPLE, "--classifier", "classifier"],
    ):
        done = script(*words)
        assert done.returncode == 2 and "does not fit the config" in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.usefixtures("little_memory")
def test_of_a_run_to_resume(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = newest_checkpoint(runs / "kl")
    state = read_checkpoint(path)
    for config in (state["config"], state["source"]):
        config["model"]["params"]["autoencoder"]["params"]["width"] = WIDE
    save_pickled(path, state)
    assert main(["--resume", "kl", "trainer.params.steps=6"]) == 2
    assert "error: checkpoint and config differ: autoencoder." in capsys.readouterr().err


def test_one_that_fits_is_loaded_as_ever(runs: Path, script: Any) -> None:
    done = script("scripts/sample.py", "class", *SAMPLE)
    assert done.returncode == 0 and torch.get_default_device() == torch.device("cpu"), done.stderr
