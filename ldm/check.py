"""`--check`: everything that can be known about a config before a GPU starts."""

import copy
import json
import logging
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldm.conditioning import ClassEmbedding, LabelMap, LabelVector
from ldm.config import Config, Problem, Trust, build, validate
from ldm.config.targets import did_you_mean
from ldm.data.batch import Batch, check_sample, collate
from ldm.data.tasks import WithTask
from ldm.errors import MissingFile, UserError
from ldm.first_stage.base import FirstStage
from ldm.generation import DIVIDES_BY_ALPHA, SamplerSettings
from ldm.loading import first_stage_source, starting_weights
from ldm.networks import NoisyClassifier
from ldm.seeding import StepRandom
from ldm.shrink import WIDTH, shrink
from ldm.sources import PRETRAINED
from ldm.training import AutoencoderTraining, ClassifierTraining, DataModule, DiffusionTraining, TrainerSettings
from ldm.training.module import TrainingModule
from ldm.training.run import extras

log = logging.getLogger(__name__)
START = "ldm.loading.starting_weights"
LOOKS = 32  # samples that are read
MADE_UP = 256  # largest side of a made-up image


@dataclass
class Report:
    """What a check found; `exit_code` is 0, 2 or 3 as in docs/."""

    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    parameters: dict[str, int] = field(default_factory=dict)
    learning_rate: dict[str, Any] = field(default_factory=dict)
    batch: dict[str, str] = field(default_factory=dict)
    step: dict[str, float] = field(default_factory=dict)
    start: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return 2 if self.problems else 3 if self.missing else 0

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        findings = {key: value for key, value in asdict(self).items() if key != "start"}
        path.write_text(json.dumps({"exit_code": self.exit_code, **findings}, indent=2) + "\n", encoding="utf-8")

    def text(self) -> str:
        """For people."""
        lines = []
        if self.parameters:
            lines.append("parameters")
            lines += [f"  {name:<14}{count / 1e6:>10.2f} M" for name, count in self.parameters.items()]
        if self.learning_rate:
            lines += ["learning rate", f"  {self.learning_rate['formula']}"]
        if self.batch:
            lines.append("one batch")
            lines += [f"  {key:<14}{text}" for key, text in self.batch.items()]
        if self.step:
            lines.append("one step at shrunken width: " + ", ".join(f"{key} {value:.4g}" for key, value in self.step.items()))
        for title, entries in (("wrong:", self.problems), ("missing:", self.missing)):
            if entries:
                lines += [title, *(f"  {entry}" for entry in entries)]
        verdict = {0: "ready", 2: "not ready: the config is wrong", 3: "the config is right, but files are missing"}
        return "\n".join([*lines, verdict[self.exit_code]])


def check(config: Config, trust: Trust) -> Report:
    """Validate, build on the meta device, read a batch, run one narrow step."""
    report = Report([*map(str, validate(config, trust)), *extras(config.data, trust)])
    if report.problems:
        return report
    check_sampling(config.data, report)
    settings = build_or_report(config.data["trainer"], "trainer", trust, report)
    data = build_or_report(config.data["data"], "data", trust, report)
    model_node = without_checkpoints(config.data["model"], "model", report)
    module = build_on_meta(model_node, config, trust, report)
    if isinstance(module, TrainingModule):
        report.parameters = count_parameters(module)
        report.missing += [f"{path}: {error}" for path, error in missing_files(module)]
        check_steps(module, config.data, report)
        check_start(module, report)
        if isinstance(data, DataModule) and isinstance(settings, TrainerSettings):
            report.learning_rate = learning_rate(config.data["model"], data, settings, report)
        elif isinstance(settings, TrainerSettings):
            report.learning_rate = {"formula": "not known: the data could not be opened"}
        batch = read_batch(data, module, config, report)
        if batch is not None and not report.problems:
            run_narrow_step(model_node, batch, trust, report)
    return report


def check_sampling(config: dict[str, Any], report: Report) -> None:
    """Hold `sampling:` and `evaluation:` against what the scripts read from them."""
    known = [f.name for f in fields(SamplerSettings)]
    for key, more in (("sampling", []), ("evaluation", ["samples", "published"])):
        settings = config.get(key) or {}
        for name in settings:
            if name not in (*known, *more):
                names = known + more
                report.problems.append(f"{key}.{name}: unknown{did_you_mean(name, names)} (known: {', '.join(names)})")
        try:
            SamplerSettings(**{name: value for name, value in settings.items() if name in known})
        except (UserError, TypeError) as error:
            report.problems.append(f"{key}: {error}")


def check_steps(module: TrainingModule, config: dict[str, Any], report: Report) -> None:
    """No sampler can take more steps than the schedule has."""
    if not isinstance(module, DiffusionTraining):
        return
    asked = {"model.params.preview": module.preview.steps}
    asked |= {key: config[key].get("steps", 1) for key in ("sampling", "evaluation") if config.get(key)}
    T = module.model.schedule.T
    if module.model.schedule.zero_terminal_snr:
        samplers = {"model.params.preview": module.preview.sampler}
        samplers |= {key: config[key].get("sampler", "ddim") for key in ("sampling", "evaluation") if config.get(key)}
        wrong = {path: name for path, name in samplers.items() if name in DIVIDES_BY_ALPHA}
        report.problems += [f"{path}: {name} cannot begin where the schedule leaves nothing of the image" for path, name in wrong.items()]
    report.problems += [f"{path}: {steps} sampling steps, but the schedule has only {T}" for path, steps in asked.items() if steps > T]


def check_start(module: TrainingModule, report: Report) -> None:
    """The weights to begin with have to be of the same model."""
    if not report.start or not isinstance(module, DiffusionTraining):
        return
    own = {name: tuple(value.shape) for name, value in module.weights().items()}
    different = [name for name in sorted(own.keys() | report.start.keys()) if own.get(name) != report.start.get(name)]
    if different:
        name = different[0]
        text = f"{name} is {report.start.get(name, 'missing')}, expected {own.get(name, 'none')}"
        report.problems.append(f"model.params.start: the weights are of another model: {text}")


def build_or_report(node: Any, path: str, trust: Trust, report: Report) -> Any:
    """Build a node for real; what is wrong or missing goes into the report."""
    missing: list[MissingFile] = []
    try:
        built = build(node, trust, path, missing.append)
    except UserError as error:
        # With a part missing, what contains it cannot be judged.
        if not missing:
            report.problems.append(str(error))
        built = None
    report.missing += list(map(str, missing))
    return built


def without_checkpoints(node: Any, path: str, report: Report) -> Any:
    """The model's node with every `pretrained` replaced by its architecture; absent files go into the report."""
    if isinstance(node, list):
        return [without_checkpoints(item, f"{path}.{i}", report) for i, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    if node.get("target") == START:
        report_start(node, path, report)
        return None
    if node.get("target") != PRETRAINED:
        return {key: without_checkpoints(item, f"{path}.{key}", report) for key, item in node.items()}
    params = node.get("params") or {}
    inner, checkpoint = params.get("model"), params.get("checkpoint")
    if not checkpoint:
        report.missing.append(
            f"{path}.params.checkpoint: the trained first stage: train one, then set it to its run folder or weights file"
        )
        return copy.deepcopy(inner)
    try:
        inside = first_stage_source(checkpoint).node if inner is None else compare_shapes(inner, checkpoint)
    except MissingFile as error:
        report.missing.append(f"{path}.params.checkpoint: the trained first stage: {error}")
        return copy.deepcopy(inner)
    except UserError as error:
        report.problems.append(f"{path}.params.checkpoint: {error}")
        return copy.deepcopy(inner)
    return copy.deepcopy(inner if inner is not None else inside)


def report_start(node: dict[str, Any], path: str, report: Report) -> None:
    """Whether the weights to begin with are there."""
    checkpoint = (node.get("params") or {}).get("checkpoint")
    if not checkpoint:
        report.missing.append(f"{path}.params.checkpoint: the weights to fine-tune: train them, then set it to the run folder or file")
        return
    try:
        report.start = {name: tuple(value.shape) for name, value in starting_weights(checkpoint).items()}
    except MissingFile as error:
        report.missing.append(f"{path}.params.checkpoint: the weights to fine-tune: {error}")
    except UserError as error:
        report.problems.append(f"{path}.params.checkpoint: {error}")


def compare_shapes(node: Any, checkpoint: str) -> Any:
    """Hold a first stage's node against the weights it is to load; returns the node.

    Raises:
        MissingFile: no weights.
        UserError: names the first difference.
    """
    with torch.device("meta"):
        model = build(node, Trust(), "first_stage")
    source = first_stage_source(checkpoint, model)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in source.weights.chosen().items()}
    different = [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]
    if different:
        name = different[0]
        raise UserError(
            f"{source.path} does not fit the config: {name} is {found.get(name, 'missing')}, expected {expected.get(name, 'none')}"
        )
    return node


def build_on_meta(node: Any, config: Config, trust: Trust, report: Report) -> Any:
    """The whole model at full size, without memory."""
    if _lacks_first_stage(node):
        report.missing.append("model: cannot be built: the first stage's architecture is in the missing checkpoint")
        return None
    try:
        with torch.device("meta"):
            return build(node, trust, "model")
    except MissingFile as error:
        report.missing.append(str(error))
    except UserError as error:
        path = str(error).partition(":")[0]
        report.problems.append(str(Problem(config.origin(path), path, str(error).partition(": ")[2])))
    return None


def _lacks_first_stage(node: Any) -> bool:
    model = ((node.get("params") or {}).get("model") or {}) if isinstance(node, dict) else {}
    return isinstance(model, dict) and "first_stage" in (model.get("params") or {}) and model["params"]["first_stage"] is None


def count_parameters(module: TrainingModule) -> dict[str, int]:
    """Parameters per part, frozen ones included."""
    return {name: sum(p.numel() for p in part.parameters()) for name, part in module.parts().items()}


def missing_files(module: nn.Module) -> list[tuple[str, MissingFile]]:
    """What the parts of a model say is not there (weights of LPIPS, tokenizers)."""
    found = []
    for name, part in module.named_modules():
        for label, thing in ((name, part), (f"{name}.tokenizer", getattr(part, "tokenizer", None))):
            ask = getattr(thing, "missing", None)
            if callable(ask):
                found += [(f"model.{label}", error) for error in ask()]
    return found


def learning_rate(node: Any, data: DataModule, settings: TrainerSettings, report: Report) -> dict[str, Any]:
    """The rate that training will use, and how it comes about."""
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


def read_batch(data: Any, module: TrainingModule, config: Config, report: Report) -> Batch | None:
    """A batch for the narrow step: two real samples, or made-up ones where the data is missing."""
    if not isinstance(data, DataModule) or innermost(data.train) is None:
        report.batch = {"image": "made up, because the data is missing"}
        return made_up_batch(module, config)
    try:
        batch, wrong = sample_problems(data, module)
    except MissingFile as error:
        report.missing.append(f"data.params.train: {error}")
        return made_up_batch(module, config)
    report.problems += wrong
    if batch is None:
        return None
    report.batch = {key: describe(value) for key, value in batch.items() if key != "skipped"}
    return None if wrong else {key: value[:2] for key, value in batch.items()}


def innermost(dataset: Any) -> Any:
    """The images below a data set's masks or degradations; none where they could not be opened."""
    return innermost(dataset.images) if isinstance(dataset, WithTask) else dataset


def sample_problems(data: DataModule, module: TrainingModule) -> tuple[Batch | None, list[str]]:
    """Samples from all over the data as one batch, and where they do not fit the schema or the model."""
    try:
        length = len(data.train)  # type: ignore[arg-type]
        samples = [data.train[i * length // LOOKS] for i in range(LOOKS)]
        for sample in samples:
            check_sample(sample, type(data.train).__name__)
        batch = collate(samples)
    except MissingFile:
        raise
    except Exception as error:  # a data set can fail in any way; here it fails before the device starts
        kind = "" if isinstance(error, ValueError | UserError) else f"{type(error).__name__}: "
        return None, [f"data.params.train: {kind}{error}"]
    return batch, [f"data.params.train: {text}" for text in fits(batch, module)]


def stage_one_of(module: TrainingModule) -> FirstStage:
    """The first stage that a training module trains, or builds on."""
    if isinstance(module, DiffusionTraining):
        return module.model.first_stage
    if isinstance(module, ClassifierTraining):
        return module.first_stage
    assert isinstance(module, AutoencoderTraining)
    return module.autoencoder


def describe(value: Any) -> str:
    """Type, shape and range of one entry of a batch."""
    if isinstance(value, Tensor):
        span = f" in [{value.min():.3g}, {value.max():.3g}]" if value.numel() else ""
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}{span}"
    if value and isinstance(value[0], Tensor):
        return f"{len(value)} x {describe(value[0])}"
    return repr(value[0])


def fits(batch: Batch, module: TrainingModule) -> list[str]:
    """Where a batch and a model do not fit: keys, channels, sizes, class indices, words."""
    wrong = [
        f"the model reads {key!r}, which the data does not give (it gives {', '.join(batch)})" for key in module.reads() if key not in batch
    ]
    if wrong:
        return wrong
    stage_one = stage_one_of(module)
    channels, height, width = batch["image"].shape[1:]
    if channels != stage_one.image_channels:
        wrong.append(f"images have {channels} channels, the first stage takes {stage_one.image_channels}")
    try:
        _, h, w = stage_one.latent_shape(height, width)
    except ValueError as error:
        return [*wrong, str(error)]
    if isinstance(module, ClassifierTraining) and (h, w) != (module.classifier.size, module.classifier.size):
        wrong.append(f"latents are {h}x{w}, the classifier was built for {module.classifier.size}x{module.classifier.size}")
    if isinstance(module, DiffusionTraining | ClassifierTraining):
        wrong += class_fits(batch, module)
    if isinstance(module, DiffusionTraining):
        factor = module.model.network.factor
        if h % factor or w % factor:
            multiple = factor * stage_one.factor
            wrong.append(f"latents are {h}x{w}, no multiple of the {factor} that the network needs: use images of a multiple of {multiple}")
        wrong += condition_fits(batch, module.model.conditioner)
    return wrong


def class_fits(batch: Batch, module: nn.Module) -> list[str]:
    """Class indices beyond those that a part was built for."""
    wrong = []
    for part in module.modules():
        if isinstance(part, ClassEmbedding | LabelVector | NoisyClassifier) and "label" in batch:
            classes = part.classes if isinstance(part, NoisyClassifier) else part.num_classes
            if int(batch["label"].max()) >= classes:
                wrong.append(f"class {int(batch['label'].max())} in the data, {type(part).__name__} knows 0 to {classes - 1}")
        if isinstance(part, LabelMap) and "segmentation" in batch:
            labels = batch["segmentation"][batch["segmentation"] != 255]
            if labels.numel() and int(labels.max()) >= part.num_classes:
                wrong.append(f"label {int(labels.max())} in the label maps, the conditioner knows 0 to {part.num_classes - 1} and 255")
    return wrong


def condition_fits(batch: Batch, conditioner: nn.Module) -> list[str]:
    """Words that a conditioner does not know."""
    wrong = []
    for part in conditioner.modules():
        unknown = getattr(getattr(part, "tokenizer", None), "unknown", None)
        if callable(unknown) and "caption" in batch:
            words = sorted({word for text in batch["caption"] for word in unknown(text)})
            wrong += [f"the tokenizer's vocabulary lacks {', '.join(words)}"] if words else []
    return wrong


def made_up_batch(module: TrainingModule, config: Config) -> Batch:
    """Two samples of the size that the config's data would have."""
    params = (config.data["data"].get("params") or {}).get("train") or {}
    while isinstance(inner := (params.get("params") or {}).get("images"), dict):
        params = inner  # below masks or degradations
    size = (params.get("params") or {}).get("size", 256)
    if not isinstance(module, ClassifierTraining):  # which was built for one size
        # Nothing is known of the data, so a larger picture would show no more and only cost time.
        size = min(size, MADE_UP // 2 if isinstance(module, AutoencoderTraining) else MADE_UP)
    return made_up(module, size)


def made_up(module: TrainingModule, size: int, count: int = 2) -> Batch:
    """Samples that are noise, with everything that a module reads; images are `(count, C, size, size)` in [-1, 1]."""
    image = torch.rand(count, stage_one_of(module).image_channels, size, size) * 2 - 1
    low = torch.nn.functional.avg_pool2d(image, 4)
    everything: Batch = {
        "image": image,
        "label": torch.zeros(count, dtype=torch.int64),
        "caption": [""] * count,
        "mask": torch.zeros(count, 1, size, size),
        "masked_image": image,
        "low_res": low,
        "segmentation": torch.zeros(count, size, size, dtype=torch.int64),
        "boxes": [torch.tensor([[0.1, 0.2, 0.6, 0.9]])] * count,
        "box_labels": [torch.tensor([0])] * count,
        "embedding": torch.zeros(count, 1, WIDTH),
        "id": [f"made-up-{i}" for i in range(count)],
    }
    return {key: everything[key] for key in {*module.reads(), "image", "id"} if key in everything}


def run_narrow_step(node: Any, batch: Batch, trust: Trust, report: Report) -> None:
    """One forward and backward pass of the same config with narrow networks, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(shrink(node), trust, "model (shrunken)")
        module.manual_backward = lambda loss: loss.backward()
        if isinstance(module, DiffusionTraining) and module.model.scale_by_std:
            module.model.scale.fill_(1.0)
            module.model.scale_by_std = False
        try:
            logs = module.update(batch, StepRandom(0, 0, batch["id"]))
        except Exception as error:  # whatever it is, it would have happened on the device
            report.problems.append(f"model: one step fails on a batch of the data: {type(error).__name__}: {error}")
            return
        try:
            optimizers = module.configure_optimizers()
            if not all(isinstance(optimizer, torch.optim.Optimizer) for optimizer in optimizers):
                raise TypeError("it builds no torch.optim.Optimizer")
        except Exception as error:  # a negative rate, a missing argument
            report.problems.append(f"model.params.optimizer or scheduler: {type(error).__name__}: {error}")
            return
    without = [name for name, p in module.averaged().items() if p.requires_grad and p.grad is None]
    if without:
        report.problems.append(f"model: no gradient reaches {len(without)} parameters, for example {without[0]}")
    report.step = {name: float(value) for name, value in logs.items() if name.startswith("loss")}
    if not all(math.isfinite(value) for value in report.step.values()):
        report.problems.append(f"model: one step on a batch of the data gives a loss that is not finite: {report.step}")
