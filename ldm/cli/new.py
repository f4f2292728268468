"""What `scripts/new.py` does: write the two configs of a folder, and say what they cost."""

import argparse
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from ldm.check.cost import GIB, Cost, training_cost
from ldm.check.from_data import from_data
from ldm.checkpoint.first_stage import KEPT
from ldm.checkpoint.frozen import first_stage_source
from ldm.checkpoint.read import read_source
from ldm.checkpoint.source import LoadedCheckpoint, trained_size
from ldm.config import AllowedTargets, build, load, validate
from ldm.errors import UserError
from ldm.first_stage.base import FirstStage
from ldm.nn.meta import on_meta
from ldm.precision import narrowest
from ldm.recipes.commented import to_yaml
from ldm.recipes.configs import fine_tuning, first_stage, second_stage
from ldm.recipes.plan import plan
from ldm.recipes.survey import Survey, survey
from ldm.recipes.tasks import TASKS, Task, condition, suggested
from ldm.system.files import write_text
from ldm.system.shell import command
from ldm.system.terminal import printable

FIRST = "first-stage.yaml"


def new(flags: argparse.Namespace) -> int:
    """Look at the folder, write the configs and print the commands; returns the exit code."""
    folder, out = Path(flags.folder), Path(flags.out)
    found = survey(folder)
    chosen = flags.task or ("condition" if flags.condition else suggested(found))
    if (chosen == "condition") != (flags.condition is not None):
        raise UserError(f"--task {chosen}: --condition KEY goes with --task condition, and names a numeric column of the metadata")
    start = starting_model(flags) if flags.start else None
    size = flags.size if start is None else trained_size(start.config)
    stage = existing_stage(flags.first_stage, found) if flags.first_stage else None
    if stage is not None:
        bits = found.bits if stage.image_channels == 1 else min(found.bits, 8)  # colours are read with 8 bits
        found = replace(found, channels=stage.image_channels, bits=bits)
    numbers = plan(found, device_memory(flags.memory), size, None if stage is None else (stage.factor, stage.channels))
    task = condition(found, numbers, flags.condition) if flags.condition else TASKS[chosen](found, numbers)
    files = {out / FIRST: first_stage(found, numbers)} if stage is None else {}
    files[out / f"{chosen}.yaml"] = second_stage(found, numbers, task, FIRST, flags.first_stage)
    if start is not None:
        kept = Path(flags.start) / KEPT
        first = str(kept if kept.is_file() else start.trained_with.get("path", flags.start))
        files = {out / f"fine-tune-{chosen}.yaml": fine_tuning(found, numbers, task, flags.start, start.node, first)}
    if there := [path for path in files if path.exists() and not flags.force]:
        raise UserError(f"{there[0]} already exists: choose another --out, or overwrite it with --force")
    print_lines([f"{folder}:", *(f"  {line}" for line in found.said()), f"task: {chosen}{other_tasks(found, chosen)}"])
    commands, rate = next_commands(list(files), task), matmul_rate()
    for (path, config), line in zip(files.items(), commands, strict=False):
        title = "Stage one" if path.name == FIRST else f"Stage two, {chosen}"
        write_text(path, to_yaml(config, f"{title}, for {printable(folder)}.\n  {line}"))
        print_lines([f"{path}: {cost_of(path).said(rate, flags.price)}"])
    runs = "logs/STAGE1 and logs/STAGE2 are the folders" if out / FIRST in files else "logs/STAGE2 is the folder"
    print_lines(["", f"next ({runs} that training prints):", *(f"  {line}" for line in commands)])
    return 0


def starting_model(flags: argparse.Namespace) -> LoadedCheckpoint:
    """The model of `--start`.

    Raises:
        UserError: a first stage, or flags that its size and first stage decide.
    """
    if flags.size is not None:
        raise UserError("--size: with --start, images have the size that the model was trained at")
    if flags.first_stage is not None:
        raise UserError("--first-stage: with --start, the first stage is that of the model")
    start = read_source(flags.start)
    if not start.stage_two:
        raise UserError(f"--start {flags.start}: a first stage; expected a run of stage two, or its weights")
    return start


def existing_stage(path: str, found: Survey) -> FirstStage:
    """The structure of the first stage of `--first-stage`, on the meta device.

    Raises:
        MissingFile, UserError: no first stage there, or one for other channels than arrays have.
    """
    with on_meta():
        stage: FirstStage = build(first_stage_source(path).node, AllowedTargets().for_model(), "first_stage")
    if stage.image_channels != found.channels and not (found.bits and stage.image_channels in (1, 3, 4)):
        raise UserError(f"--first-stage {path}: for images of {stage.image_channels} channels; the folder has {found.channels}")
    return stage


def device_memory(text: str | None) -> float:
    """Memory in GiB of what trains: as given, or of the GPU that is here; 0 is a CPU.

    Raises:
        UserError: not a number.
    """
    if text is not None:
        try:
            memory = float(text.lower().removesuffix("gib").removesuffix("gb"))
        except ValueError:
            memory = math.nan
        if not memory >= 0:
            raise UserError(f"--memory {text}: expected GiB of the GPU, such as 24, or 0 for a CPU")
        return memory
    return torch.cuda.get_device_properties(0).total_memory / GIB if torch.cuda.is_available() else 0.0


def other_tasks(found: Survey, chosen: str) -> str:
    """ " (also possible: ...)": the other tasks for which something is there."""
    possible = ["unconditional", "inpainting", "superres"]
    possible += ["class"] if found.classes else []
    possible += ["captions"] if found.captions else []
    possible += [f"condition --condition {key}" for key in found.columns]
    others = ", ".join(one for one in possible if one.split()[0] != chosen)
    return f" (also possible: {others}; --task chooses)"


def next_commands(files: list[Path], task: Task) -> list[str]:
    """Train what was written, then sample."""
    train = [command("main.py", "--base", path, "--train") for path in files]
    if len(train) > 1:
        train[1] += " paths.first_stage=logs/STAGE1"
    script, *words = task.script
    return [*train, command(f"scripts/{script}", *words)]


def cost_of(path: Path) -> Cost:
    """The estimated cost of a config."""
    config = load([path])
    if problems := validate(config, AllowedTargets()):
        raise UserError(f"{path}: {problems[0]}")
    from_data(config, AllowedTargets())
    return training_cost(config)


def matmul_rate(seconds: float = 0.5) -> float:
    """Operations per second of a matrix product on the device that training would use, measured now."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = narrowest(device)
    side = 4096 if device.type == "cuda" else 512
    a = torch.randn(side, side, device=device, dtype=dtype)
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        float((a @ a)[0, 0])
        done += 1
    return 2.0 * side**3 * done / (time.perf_counter() - begun)


def print_lines(lines: list[str]) -> None:
    """Print lines."""
    sys.stdout.write("\n".join(lines) + "\n")
