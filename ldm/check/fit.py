"""Validate a batch against a model: keys, channels, sizes, class indices."""

from typing import Any

from ldm.conditioning import Conditioner
from ldm.data.batch import Batch, check_sample, collate, value_problems
from ldm.data.sources.tasks import WithTask
from ldm.errors import MissingFile, UserError
from ldm.training import AutoencoderTraining, DataModule, DiffusionTraining
from ldm.training.module import TrainingModule

SAMPLES, HELD_OUT_SAMPLES = 32, 8  # number of samples that are read


def sample_problems(data: DataModule, module: TrainingModule) -> tuple[Batch | None, list[str]]:
    """Samples spread over the training data as one batch, and problems of these or held-out samples with the schema or the model."""
    batch, wrong = _read_samples("train", data.train, SAMPLES, module)
    if innermost(data.validation) is not None:
        wrong += _read_samples("validation", data.validation, HELD_OUT_SAMPLES, module)[1]
    return batch, wrong


def innermost(dataset: Any) -> Any:
    """The images below a data set's masks or degradations; None if they could not be opened."""
    return innermost(dataset.images) if isinstance(dataset, WithTask) else dataset


def _read_samples(name: str, dataset: Any, count: int, module: TrainingModule) -> tuple[Batch | None, list[str]]:
    path = f"data.params.{name}"
    try:
        length = len(dataset)
        samples = [
            dataset[i * (length - 1) // (count - 1)] for i in range(count)
        ]  # including the last one, because classes are often in order
        for sample in samples:
            check_sample(sample, type(dataset).__name__)
        batch = collate(samples)
    except MissingFile as error:
        raise MissingFile(f"{path}: {error}") from error
    except Exception as error:  # data sets raise many kinds; better here than in training
        kind = "" if isinstance(error, ValueError | UserError) else f"{type(error).__name__}: "
        return None, [f"{path}: {kind}{error}"]
    return batch, [f"{path}: {text}" for text in fits(batch, module)]


def condition_values(batch: Batch, conditioner: Conditioner) -> list[str]:
    """Problems of the values of a batch for every part of a conditioner."""
    return [text for part in conditioner.leaves() for text in value_problems(batch, part.keys, type(part).__name__)]


def fits(batch: Batch, module: TrainingModule) -> list[str]:
    """Mismatches of a batch and a model: keys, channels, sizes, class indices."""
    keys = module.keys()
    wrong = [f"the model reads {name!r}, which the data does not have (it has {', '.join(batch)})" for name in keys if name not in batch]
    if wrong:
        return wrong
    stage_one = module.stage()
    channels, height, width = batch["image"].shape[1:]
    if channels != stage_one.image_channels:
        wrong.append(f"images have {channels} channels, the first stage takes {stage_one.image_channels}")
    if isinstance(module, AutoencoderTraining) and module.loss.discriminator is not None:
        takes = next(p for p in module.loss.discriminator.parameters()).shape[1]
        if takes != stage_one.image_channels:
            wrong.append(f"model.params.loss.params.discriminator.params.in_channels is {takes}, images have {stage_one.image_channels}")
    if isinstance(module, AutoencoderTraining) and module.loss.perceptual is not None and channels not in (1, 3):
        wrong.append(f"LPIPS (model.params.loss.params.perceptual) takes 1 or 3 channels, images have {channels}: leave it out")
    try:
        module.check_size(height, width)
    except (ValueError, UserError) as error:
        return [*wrong, str(error)]
    if isinstance(module, DiffusionTraining):
        return wrong + condition_values(batch, module.model.conditioner)
    return wrong + value_problems(batch, {name: key for name, key in keys.items() if name != "image"}, "the model")
