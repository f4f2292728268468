"""What a run prints at its end: where its files are, and the next command."""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ldm.checkpoint.foreign import FOREIGN
from ldm.cli.next_command import sampling_command
from ldm.config import AllowedTargets, Config, build, literal, load
from ldm.config.load import read
from ldm.data.classes import class_names
from ldm.errors import UserError
from ldm.nn.meta import on_meta
from ldm.system.shell import as_argument, as_installed, command, quoted
from ldm.system.shipped import INSTALLED, ROOT, config_file
from ldm.training import AutoencoderTraining, ClassifierTraining, DataModule
from ldm.training.resuming import at, differences

OWN = ROOT / "configs" / "own" / "ldm.yaml"
STAGE_OF = re.compile(r"""from:\s*["']?([^"':\n]+):model\.params\.autoencoder""")


def resume_command(folder: Path, flags: argparse.Namespace) -> str:
    """The command that continues a run."""
    price = [] if getattr(flags, "price", None) is None else ["--price", f"{flags.price:g}"]
    return command("main.py", "--resume", as_argument(folder), *repeated(flags, "trust", "allow_env"), *price)


def repeated(flags: argparse.Namespace, *names: str) -> list[str]:
    """Flags of the command line that the next command needs as well."""
    return [word for name in names for value in getattr(flags, name, []) for word in (f"--{name.replace('_', '-')}", value)]


def final_message(
    folder: Path, module: Any, data: DataModule, config: Config, flags: argparse.Namespace, overrides: Sequence[str] = ()
) -> str:
    """Where the files are, and the next command; `overrides` are those of this one."""
    pictures = f"pictures: {folder}/images, " if (folder / "images").is_dir() else ""
    where = f"done. Weights: {folder}/checkpoints, {pictures}numbers: {folder}/metrics.csv"
    if isinstance(module, ClassifierTraining):
        return (
            f"{where}\nguide the model of its first stage with it; in {as_installed('scripts/sample.py')}:\n"
            f"  {quoted('--classifier', as_argument(folder))}"
        )
    if isinstance(module, AutoencoderTraining):
        return f"{where}\nnext, stage two on it:\n  {stage_two_command(folder, config, flags, overrides)}"
    names = class_names(config.data)
    following = sampling_command(module.model, folder, first_sample(data), repeated(flags, "trust"), names)
    return where if following is None else f"{where}\nnext, sample from it:\n  {following}"


def first_sample(data: DataModule) -> dict[str, Any]:
    """The first held-out sample; empty if it cannot be read."""
    dataset: Any = data.train if data.validation is None else data.validation
    try:
        return dict(dataset[0])
    except Exception:  # data sets raise many kinds, and this is only an example
        return {}


def stage_two_command(folder: Path, config: Config, flags: argparse.Namespace, overrides: Sequence[str] = ()) -> str:
    """Stage two on a first stage: with a config that builds on the same one, else with the one for own images."""
    bases = bases_of(folder, flags)
    found = [file for base in bases for file in stage_two_configs(base)]
    named_alike = [file for file in found if any(file.stem in base.stem for base in bases)]  # digits.yaml, of digits-first-stage.yaml
    following = next(iter([*named_alike, *(file for file in found if file == OWN), *found]), OWN)
    words = [f"paths.first_stage={literal(as_argument(folder))}"]
    try:
        theirs = load([following], foreign=FOREIGN).data
    except UserError:
        theirs = {}
    ours, known = config.data.get("paths") or {}, theirs.get("paths") or {}
    words += [f"paths.{key}={literal(ours[key])}" for key in known if key != "first_stage" and ours.get(key) not in (None, known[key])]
    typed = overrides if flags.base else overrides_of_run(folder, config)
    words += [word for word in typed if same_data(word, config.data, theirs)]
    words += first_stage_overrides(config.data, theirs, AllowedTargets(tuple(flags.trust)))
    named = following.is_relative_to(ROOT) and (INSTALLED or Path.cwd() == ROOT)
    base = following.relative_to(ROOT) if named else following
    place = Path(flags.logdir) if flags.base else folder.parent
    logs = [] if place == Path("logs") else ["--logdir", as_argument(place)]
    return command("main.py", "--base", base, "--train", *logs, *repeated(flags, "trust"), *words)


def bases_of(folder: Path, flags: argparse.Namespace) -> list[Path]:
    """The configs of a run; of a resumed one, the config of this project after which its folder is named."""
    name = folder.resolve().name.partition("_")[2]
    return [config_file(Path(base)) for base in flags.base] or [
        file for file in sorted((ROOT / "configs").rglob("*.yaml")) if file.stem == name
    ]


def overrides_of_run(folder: Path, config: Config) -> list[str]:
    """The overrides of data with which a resumed run began."""
    try:
        base = read(folder / "base.yaml")
    except UserError:  # its configs are incomplete without the command line
        return []
    data = "data.params"
    found = {path: at(config.source, path) for path in differences(at(base, data), at(config.data, data), data)}
    texts = {path: value if isinstance(value, str) else json.dumps(value) for path, value in found.items()}
    return [f"{path}={text}" for path, text in texts.items() if not text.startswith("${")]  # references to paths are overrides of their own


def same_data(word: str, ours: Any, theirs: Any) -> bool:
    """Whether an override changes a data set that both stages read in the same way."""
    keys = word.partition("=")[0].split(".")
    if keys[:2] != ["data", "params"] or keys[2:3] not in (["train"], ["validation"]):
        return False
    here, there = (config["data"]["params"].get(keys[2]) if "data" in config else None for config in (ours, theirs))
    return isinstance(here, dict) and isinstance(there, dict) and here.get("target") == there.get("target")


def first_stage_overrides(ours: Any, theirs: Any, trust: AllowedTargets) -> list[str]:
    """Overrides with which a config of stage two fits a first stage other than the one that it names."""
    try:
        made, model = ours["model"]["params"]["autoencoder"], theirs["model"]["params"]["model"]["params"]
        named, network = model["first_stage"]["params"]["model"], model["network"]["params"]
    except (KeyError, TypeError):
        return []
    if named in (None, made):
        return []
    words = ["model.params.model.params.first_stage.params.model=null"]  # it has its own
    try:
        with on_meta():
            here, there = (int(build(node, trust, "first_stage").channels) for node in (made, named))
    except UserError:  # the run is complete, and this is only advice
        return words
    if here != there:
        inside = network["in_channels"] + here - there
        words += [f"model.params.model.params.network.params.{key}={n}" for key, n in (("in_channels", inside), ("out_channels", here))]
    return words


def stage_two_configs(base: Path) -> Iterator[Path]:
    """Configs for stage two, of this project or beside `base`, that take their first stage's architecture from it or one of its bases."""
    try:
        inside = read(base).get("base", [])
    except UserError:
        return
    files = [*sorted(base.parent.glob("*.yaml")), *sorted((ROOT / "configs").rglob("*.yaml"))]
    unique = {file.resolve(): file for file in files if file.is_file()}
    texts = {file: file.read_text(encoding="utf-8", errors="replace") for file in unique.values()}
    users = [
        file for file, text in texts.items() if any((file.parent / name).resolve() == base.resolve() for name in STAGE_OF.findall(text))
    ]
    for user in users:
        if user.parent.name != "parts":
            yield user
        else:  # a part that several configs share
            yield from (file for file, text in texts.items() if file.parent.name != "parts" and f"parts/{user.name}" in text)
    for name in [inside] if isinstance(inside, str) else inside:
        yield from stage_two_configs(base.parent / str(name))
