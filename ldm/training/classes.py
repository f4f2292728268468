"""Class indices of a batch held against what a model was built for."""

from torch import nn

from ldm.conditioning import ClassEmbedding, LabelMap, LabelVector, LayoutTransformer
from ldm.data.batch import UNLABELLED, Batch
from ldm.networks import NoisyClassifier


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
            highest = int(batch["segmentation"].masked_fill(batch["segmentation"] == UNLABELLED, 0).max())
            if highest >= part.num_classes:
                wrong.append(f"label {highest} in the label maps, the conditioner knows 0 to {part.num_classes - 1} and 255")
    return wrong
