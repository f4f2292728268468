"""What all demos share: train a config with main.py, and sample from the result."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ldm.checkpoint.load import LoadedModel, load_model
from ldm.errors import UserError
from ldm.precision import for_sampling, sampling_context
from ldm.sampling.generate import SamplerSettings, generate
from ldm.system.device import pick_device
from ldm.system.files import write_text
from ldm.system.shell import quoted
from ldm.system.signals import signals_handled

ROOT = Path(__file__).resolve().parents[1]
BATCH = 100
# Seconds of each training and of a measurement on one machine, from which the time of all of them is estimated; only ratios matter.
TYPICAL = {
    "digits-first-stage": 95.0,
    "digits": 280.0,
    "text-first-stage": 350.0,
    "text": 600.0,
    "class": 700.0,
    "layout": 950.0,
    "semantic": 390.0,
    "pictures-first-stage": 1000.0,
    "superres": 820.0,
    "inpaint": 840.0,
    "inpaint-long": 3900.0,
}
MEASURING = 60.0


def train(config: str, logs: Path, overrides: list[str], then: Sequence[str] = ()) -> tuple[Path, float]:
    """Run main.py on a demo config; the run folder and the seconds it took, start-up included.

    Args:
        config: its name in configs/demo.
        logs: where run folders go.
        overrides: key.sub=value.
        then: names of the configs that are trained after it, for the estimate of the total time.

    Raises:
        UserError: training failed (main.py has printed why).
    """
    share = [f"trainer.params.share={share_of(config, then):.3f}"]
    seconds = run_main(["--base", f"configs/demo/{config}.yaml", "--train", "--logdir", str(logs.resolve()), *share, *overrides], config)
    return runs_of(config, logs)[-1], seconds


def finished(record: Path, logs: Path) -> tuple[Path, float] | None:
    """Run folder and seconds of a training that `train_once` finished, if they are still there."""
    if not record.is_file():
        return None
    found = json.loads(record.read_text(encoding="utf-8"))
    run = logs.resolve().parent / found["run"]
    return (run, found.get("training_seconds") or found["command_seconds"]) if run.is_dir() else None  # the latter in older studies


def train_once(
    record: Path, config: str, logs: Path, overrides: list[str], then: Sequence[str] = (), resume: bool = False
) -> tuple[Path, float]:
    """`train`, unless `record` says that this is done; with `resume`, a run that was stopped is continued from its last checkpoint."""
    if done := finished(record, logs):
        return done
    begun = [run for run in runs_of(config, logs) if list(run.glob("checkpoints/step-*.ckpt"))] if resume else []
    if begun:
        run, seconds = begun[-1], run_main(["--resume", str(begun[-1])], config)
    else:
        run, seconds = train(config, logs, overrides, then)
    place = str(run.relative_to(logs.resolve().parent))  # so that the folder can be moved
    write_text(record, json.dumps({"run": place, "training_seconds": round(seconds, 1), "overrides": overrides}) + "\n")
    return run, round(seconds, 1)


def share_of(config: str, then: Sequence[str]) -> float:
    """The time of a training, divided by that of itself and those after it, each with its sampling and measuring."""
    times = [TYPICAL.get(name, 0.0) for name in (config, *then)]
    return times[0] / (sum(times) + MEASURING * (1 + len(then))) if times[0] else 1.0


def run_main(words: list[str], what: str) -> float:
    """Run main.py; the seconds it took, start-up included.

    Raises:
        UserError: it failed.
        KeyboardInterrupt: it was stopped and has saved a checkpoint.
    """
    command = ["main.py", *words]
    sys.stderr.write(f"\n{quoted('python', *command)}\n")
    begun = time.perf_counter()
    stopped: list[int] = []
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT)

    def stop(number: int, frame: Any) -> None:
        stopped.append(number)
        if number != signal.SIGINT:  # a terminal sends Ctrl-C to both processes
            process.terminate()  # it saves a checkpoint before it ends

    with signals_handled(stop):
        code = process.wait()
    if stopped:
        raise KeyboardInterrupt
    if code:
        raise UserError(f"training {what} ended with exit code {code}")
    return time.perf_counter() - begun


def runs_of(config: str, logs: Path) -> list[Path]:
    """Run folders of a demo config, finished or not, newest last."""
    found = [run for run in logs.resolve().glob("*") if run.name.split("_", 1)[-1] == Path(config).name]
    return sorted(found, key=lambda run: run.stat().st_mtime)


def load_run(run: Path) -> LoadedModel:
    """The model of a run or checkpoint, on the available device."""
    loaded = load_model(str(run))
    loaded.model.to(pick_device())
    return loaded


def sample(loaded: LoadedModel, condition: Mapping[str, Any], count: int, size: int, seed: int, **changes: Any) -> Tensor:
    """`(count, C, size, size)` images in [-1, 1] on the CPU.

    Args:
        loaded: a run's model; its config has the sampler settings.
        condition: tensors or lists with an entry per image; keys that the model does not read have no effect.
        count: number of images.
        size: height and width.
        seed: of the set; image i depends on it, on i and on its condition.
        changes: sampler settings that replace those of the config.
    """
    model, settings = loaded.model, SamplerSettings(**loaded.config["sampling"] | changes)
    reads = model.conditioner.reads if model.conditioner else ()
    device = model.device
    images = []
    with tqdm(total=count, desc="sampling", unit="image", disable=None, leave=False) as bar:
        for first in range(0, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            part = {key: condition[key][numbers.start : numbers.stop] for key in reads}
            with sampling_context("auto", device):
                images.append(generate(model, part, numbers, (size, size), settings, seed).cpu())
            bar.update(len(numbers))
    return torch.cat(images)


@torch.no_grad()
def reconstructed(loaded: LoadedModel, images: Tensor) -> Tensor:
    """Images `(N, C, H, W)` in [-1, 1] through the first stage and back."""
    model = loaded.model
    parts = [model.decode(model.encode(x.to(model.device))) for x in images.split(BATCH)]
    return torch.cat(parts).float().cpu().clamp(-1, 1)


def setting(loaded: LoadedModel) -> dict[str, Any]:
    """Training, sampling and machine behind the numbers of a demo, for its summary."""
    return {
        "training_steps": loaded.step,
        "sampling": loaded.config["sampling"],
        "device": str(loaded.model.device),
        "precision": for_sampling("auto", loaded.model.device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "weights_sha256": loaded.sha256,
    }
