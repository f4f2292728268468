"""What a run says at its end: where things are, and what to type next."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ldm.cli.following import sampling_command
from ldm.config import Config, load
from ldm.config.load import read
from ldm.errors import UserError
from ldm.interop.compvis import FOREIGN
from ldm.shell import ROOT, as_argument, command, quoted
from ldm.training import AutoencoderTraining, ClassifierTraining, DataModule

OWN = ROOT / "configs" / "own" / "ldm.yaml"
STAGE_OF = re.compile(r"""from:\s*["']?([^"':\n]+):model\.params\.autoencoder""")


def resume_command(folder: Path, flags: argparse.Namespace) -> str:
    """How to go on with a run."""
    return command("main.py", "--resume", as_argument(folder), *kept(flags, "trust", "allow_env"))


def kept(flags: argparse.Namespace, *names: str) -> list[str]:
    """Flags of the command line that the next command needs as well."""
    return [word for name in names for value in getattr(flags, name, []) for word in (f"--{name.replace('_', '-')}", value)]


def farewell(folder: Path, module: Any, data: DataModule, config: Config, flags: argparse.Namespace) -> str:
    """Where things are, and the next command."""
    where = f"done. Weights: {folder}/checkpoints, pictures: {folder}/images, numbers: {folder}/metrics.csv"
    if isinstance(module, ClassifierTraining):
        return (
            f"{where}\nguide the model of its first stage with it; in scripts/sample.py:\n  {quoted('--classifier', as_argument(folder))}"
        )
    if isinstance(module, AutoencoderTraining):
        return f"{where}\nnext, stage two on it:\n  {stage_two_command(folder, config, flags)}"
    following = sampling_command(module.model, folder, first_sample(data), kept(flags, "trust"))
    return where if following is None else f"{where}\nnext, sample from it:\n  {following}"


def first_sample(data: DataModule) -> dict[str, Any]:
    """The first held-out sample, nothing where it cannot be read."""
    dataset: Any = data.train if data.validation is None else data.validation
    try:
        return dict(dataset[0])
    except Exception:  # data sets raise many kinds; the run is done, and this is only an example for what comes next
        return {}


def stage_two_command(folder: Path, config: Config, flags: argparse.Namespace) -> str:
    """Stage two on a first stage: by the config that is made for it, else by the one for own images."""
    found = [file for base in flags.base for file in made_for(Path(base))]
    named_alike = [
        file for file in found if any(file.stem in Path(base).stem for base in flags.base)
    ]  # digits.yaml, of digits-first-stage.yaml
    following = next(iter([*named_alike, *found]), OWN)
    words = [f"paths.first_stage={folder}"]
    try:
        theirs = load([following], foreign=FOREIGN).data.get("paths") or {}
    except UserError:
        theirs = {}
    ours = config.data.get("paths") or {}
    words += [f"paths.{key}={ours[key]}" for key in theirs if key != "first_stage" and ours.get(key) not in (None, theirs[key])]
    base = following.relative_to(ROOT) if Path.cwd() == ROOT else following
    logs = [] if flags.logdir == "logs" else ["--logdir", as_argument(flags.logdir)]
    return command("main.py", "--base", base, "--train", *logs, *kept(flags, "trust"), *words)


def made_for(base: Path) -> Iterator[Path]:
    """Shipped configs of stage two that take their first stage's architecture from a config, or from one that it is based on."""
    try:
        inside = read(base).get("base", [])
    except UserError:
        return
    texts = {file: file.read_text(encoding="utf-8") for file in sorted((ROOT / "configs").rglob("*.yaml"))}
    users = [
        file for file, text in texts.items() if any((file.parent / name).resolve() == base.resolve() for name in STAGE_OF.findall(text))
    ]
    for user in users:
        if user.parent.name != "parts":
            yield user
        else:  # a part that several configs share
            yield from (file for file, text in texts.items() if file.parent.name != "parts" and f"parts/{user.name}" in text)
    for name in [inside] if isinstance(inside, str) else inside:
        yield from made_for(base.parent / str(name))
