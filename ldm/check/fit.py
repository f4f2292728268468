"""Whether a batch fits a model: keys, channels, sizes, class indices, words."""

from torch import nn

from ldm.conditioning import ClassEmbedding, LabelMap, LabelVector, LayoutTransformer
from ldm.data.batch import UNLABELLED, Batch, check_sample, collate
from ldm.errors import MissingFile, UserError
from ldm.first_stage.base import FirstStage
from ldm.networks import NoisyClassifier
from ldm.training import AutoencoderTraining, ClassifierTraining, DataModule, DiffusionTraining
from ldm.training.module import TrainingModule

LOOKS = 32  # samples that are read


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


def stage_one_of(module: TrainingModule) -> FirstStage:
    """The first stage that a training module trains, or builds on."""
    if isinstance(module, DiffusionTraining):
        return module.model.first_stage
    if isinstance(module, ClassifierTraining):
        return module.first_stage
    assert isinstance(module, AutoencoderTraining)
    return module.autoencoder


def class_fits(batch: Batch, module: nn.Module) -> list[str]:
    """Class indices beyond those that a part was built for."""
    wrong = []
    for part in module.modules():
        if isinstance(part, ClassEmbedding | LabelVector | NoisyClassifier) and "label" in batch:
            classes = part.classes if isinstance(part, NoisyClassifier) else part.num_classes
            if int(batch["label"].max()) >= classes:
                wrong.append(f"class {int(batch['label'].max())} in the data, {type(part).__name__} knows 0 to {classes - 1}")
        if isinstance(part, LayoutTransformer) and "box_labels" in batch:
            highest = max((int(labels.max()) for labels in batch["box_labels"] if len(labels)), default=-1)
            if highest >= part.boxes.classes:
                wrong.append(f"box class {highest} in the data, the tokenizer's vocabulary has tokens for 0 to {part.boxes.classes - 1}")
        if isinstance(part, LabelMap) and "segmentation" in batch:
            labels = batch["segmentation"][batch["segmentation"] != UNLABELLED]
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
