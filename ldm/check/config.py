"""`--check`: validate a config as far as possible before training."""

import difflib
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from ldm.check.conditions import CONDITIONER, repeated, unread
from ldm.check.from_data import from_data
from ldm.check.from_first_stage import from_first_stage
from ldm.check.model import build_on_meta, count_parameters, missing_files, without_checkpoints
from ldm.check.report import Report
from ldm.check.step import read_batch, run_narrow_step
from ldm.checkpoint.start import begin_with
from ldm.config import AllowedTargets, Config, build, validate
from ldm.config.interpolation import paths_read
from ldm.config.targets import did_you_mean
from ldm.errors import MissingFile, UserError
from ldm.model import LatentDiffusion
from ldm.ranges import integer
from ldm.sampling.generate import SamplerSettings
from ldm.training import AutoencoderTraining, DataModule, DiffusionTraining, TrainerSettings
from ldm.training.lightning_checks import build_trainer, callback_problems, without_servers
from ldm.training.module import TrainingModule
from ldm.training.run import quiet_lightning
from ldm.training.stage2 import not_normalized

BEGINNING = "model.params.start"
FIRST_STAGE = "model.params.model.params.first_stage"


def check(config: Config, trust: AllowedTargets, latents: bool = False) -> Report:
    """Validate, build on the meta device, read a batch, run one step with narrow networks.

    Args:
        config, trust: the config and its allowed targets; values that data and files say are written into the config.
        latents: also encode a few images with the first stage, and warn of latents that are not normalized.
    """
    report = Report()
    with report.recording("config"):
        report.problems += [*map(str, validate(config, trust)), *callback_problems(config.data, trust)]
    with report.recording("model"):
        if not report.problems:
            from_first_stage(config, trust)
            from_data(config, trust)
    if report.problems or report.missing:
        return report
    sampling = check_sampling(config.data, report)
    settings = build_or_report(config.data["trainer"], "trainer", trust, report, TrainerSettings)
    callbacks = build_or_report(config.data.get("callbacks") or {}, "callbacks", trust, report)
    build_or_report(without_servers(config.data.get("loggers") or {}, trust), "loggers", trust, report)
    if isinstance(settings, TrainerSettings) and not report.problems:
        try:
            settings.require_device()
        except UserError as error:
            report.problems.append(str(error))
        with report.recording("trainer.params"):
            quiet_lightning()
            build_trainer(settings, list((callbacks or {}).values()))
    data = build_or_report(config.data["data"], "data", trust, report, DataModule)
    report.built = {"trainer": settings, "data": data}
    with report.recording("model"):
        check_model(config, settings, data, sampling, trust, report, latents)
    return report


def check_model(
    config: Config,
    settings: Any,
    data: Any,
    sampling: dict[str, SamplerSettings],
    trust: AllowedTargets,
    report: Report,
    latents: bool,
) -> None:
    """Validate the model at full size against the data, and run a step of a narrow copy."""
    model_node = without_checkpoints(config.data["model"], "model", report)
    module = build_on_meta(model_node, config, trust, report)
    if isinstance(module, TrainingModule):
        report.parameters, report.state = count_parameters(module), dict(module.training_state())
        report.downloads += [f"{path}: {error}" for path, error in missing_files(module)]
        check_steps(module, sampling, report)
        check_start(module, report)
        if isinstance(data, DataModule) and isinstance(settings, TrainerSettings):
            report.learning_rate = learning_rate(config.data["model"], data, settings, report)
        elif isinstance(settings, TrainerSettings):
            report.learning_rate = {"formula": "unknown: the data could not be opened"}
        report.warnings += unread(config.data["data"].get("params", {}).get("train"), "data.params.train", tuple(module.keys()))
        report.warnings += unused_paths(config) + ineffective(module, config.data["model"])
        if isinstance(module, DiffusionTraining):
            report.warnings += repeated(config.data["model"]["params"]["model"]["params"].get("conditioner"), CONDITIONER)
        batch = read_batch(data, module, config, report)
        if batch is not None and not report.problems:
            run_narrow_step(model_node, batch, settings if isinstance(settings, TrainerSettings) else None, trust, report)
            if latents and isinstance(module, DiffusionTraining) and "random" not in report.batch["image"]:
                check_latents(config, module.model, batch["image"], trust, report)
    elif module is not None:
        report.problems.append(f"model: expected a TrainingModule, got {type(module).__name__}")


def unused_paths(config: Config) -> list[str]:
    """Unused paths whose name is similar to a used one, probably typos; other unused paths may serve other configs."""
    read = paths_read(config.source)
    others = [name for name in config.data.get("paths") or {} if name not in read]
    near = {name: difflib.get_close_matches(name, read, n=1, cutoff=0.8) for name in others}
    return [f"paths.{name}: nothing in the config reads it; did you mean {found[0]!r}?" for name, found in near.items() if found]


def ineffective(module: TrainingModule, node: Any) -> list[str]:
    """Settings of a model without their intended effect."""
    params = node.get("params") or {}
    if isinstance(module, AutoencoderTraining) and module.loss.discriminator is None:
        weight = ((params.get("loss") or {}).get("params") or {}).get("adversarial_weight")
        return ["model.params.loss.params.adversarial_weight: has no effect without a discriminator"] if weight else []
    if isinstance(module, DiffusionTraining) and module.model.scale_by_std and module.model.process.sigma_data not in (None, 1.0):
        scale, sigma = ((params.get("model") or {}).get("params") or {}).get("scale"), module.model.process.sigma_data
        return [
            f"model.params.model.params.process.params.sigma_data: {sigma:g}, but scale: {scale} gives latents of standard deviation 1: "
            "set sigma_data: 1.0"
        ]
    return []


def check_latents(config: Config, model: LatentDiffusion, images: Tensor, trust: AllowedTargets, report: Report) -> None:
    """Warn of latents that are not normalized, as the first stage makes them of a few images."""
    if model.scale_by_std:
        return
    with report.recording(FIRST_STAGE), torch.no_grad():
        stage = build(config.data["model"]["params"]["model"]["params"]["first_stage"], trust, FIRST_STAGE)
        if next(stage.parameters(), None) is not None:
            report.warnings += not_normalized(model.scaled(stage.encode(images)), model.process.sigma_data)


def check_sampling(config: dict[str, Any], report: Report) -> dict[str, SamplerSettings]:
    """Sampler settings of `sampling:` and `evaluation:`; unknown keys and values out of range are added to the report."""
    known = [f.name for f in fields(SamplerSettings)]
    found: dict[str, SamplerSettings] = {}
    for key, more in (("sampling", []), ("evaluation", ["samples", "published"])):
        settings, names = config.get(key) or {}, [*known, *more]
        for name in settings:
            if name not in names:
                report.problems.append(f"{key}.{name}: unknown{did_you_mean(name, names)} (known: {', '.join(names)})")
        with report.recording(key):
            chosen = SamplerSettings(**{name: value for name, value in settings.items() if name in known})
            found |= {key: chosen} if settings else {}
        if key == "evaluation" and (samples := settings.get("samples")) is not None:
            with report.recording("evaluation"):
                integer(samples=samples)
    return found


def check_steps(module: TrainingModule, sampling: dict[str, SamplerSettings], report: Report) -> None:
    """Check that the samplers work with the model's process."""
    if isinstance(module, DiffusionTraining):
        for path, settings in {"model.params.preview": module.preview, **sampling}.items():
            with report.recording(path):
                settings.check(module.model.process)


def check_start(module: TrainingModule, report: Report) -> None:
    """Compare the starting weights with the model, or list what does not match."""
    if report.start is None or not isinstance(module, DiffusionTraining):
        return
    try:
        report.warnings += [f"{BEGINNING}: {line}" for line in begin_with(module.model, report.start)]
    except UserError as error:
        report.problems.append(f"model.params.{error}")


def build_or_report(node: Any, path: str, trust: AllowedTargets, report: Report, kind: type = object) -> Any:
    """Build a node of a `kind` at full size; problems and missing files are added to the report."""
    missing: list[MissingFile] = []
    try:
        built = build(node, trust, path, missing.append)
    except UserError as error:
        # Without a missing part, what contains it cannot be validated.
        if not missing:
            report.problems.append(str(error))
        built = None
    report.missing += list(map(str, missing))
    if built is not None and not isinstance(built, kind):
        report.problems.append(f"{path}: expected a {kind.__name__}, got {type(built).__name__}")
    return built


def learning_rate(node: Any, data: DataModule, settings: TrainerSettings, report: Report) -> dict[str, Any]:
    """The learning rate in training, and how it is computed."""
    params = ((node.get("params") or {}).get("optimizer") or {}).get("params") or {}
    world = settings.world_size()
    try:
        accumulate = data.accumulate(world)
    except UserError as error:
        report.problems.append(str(error))
        return {}
    per_device = data.batch_size // world // accumulate
    lr = params.get("lr")
    formula = (
        f"lr = {lr} as written: rates are global and nothing scales them; "
        f"batch {data.batch_size} = {per_device} images x {world} device{'s' * (world > 1)} x {accumulate} accumulated"
    )
    parts = {"lr": lr, "batch_size": data.batch_size, "per_device": per_device, "devices": world, "accumulate": accumulate}
    return {"formula": formula, **parts}
