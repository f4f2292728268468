"""Build the model of a config at full size on the meta device, without its files; missing files are listed."""

import copy
from typing import Any

from torch import nn

from ldm.check.report import Report
from ldm.checkpoint.fit import require_fit
from ldm.checkpoint.frozen import first_stage_source
from ldm.checkpoint.load import starting_weights
from ldm.checkpoint.source import PRETRAINED
from ldm.config import AllowedTargets, Config, Problem, build
from ldm.errors import MissingFile, UserError
from ldm.nn.files import NeedsFiles
from ldm.nn.meta import on_meta
from ldm.training.module import TrainingModule

START = "ldm.checkpoint.load.starting_weights"


def without_checkpoints(node: Any, path: str, report: Report) -> Any:
    """The model's node with every `pretrained` replaced by its architecture; missing files are added to the report."""
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
    compared = inner is not None and params.get("strict", True)
    if not checkpoint:
        report.missing.append(
            f"{path}.params.checkpoint: the trained first stage's checkpoint is not set: train one, then give its run folder or "
            "weights file (--first-stage FILE)"
        )
        return copy.deepcopy(inner)
    try:
        inside = compare_shapes(inner, checkpoint) if compared else first_stage_source(checkpoint).node
    except MissingFile as error:
        report.missing.append(f"{path}.params.checkpoint: the trained first stage: {error}")
        return copy.deepcopy(inner)
    except UserError as error:
        report.problems.append(f"{path}.params.checkpoint: {error}")
        return copy.deepcopy(inner)
    return copy.deepcopy(inside)


def report_start(node: dict[str, Any], path: str, report: Report) -> None:
    """Read the starting weights; a missing file is added to the report."""
    checkpoint = (node.get("params") or {}).get("checkpoint")
    if not checkpoint:
        report.missing.append(f"{path}.params.checkpoint: the weights to fine-tune: train them, then set it to the run folder or file")
        return
    try:
        report.start = starting_weights(**(node.get("params") or {}))
    except MissingFile as error:
        report.missing.append(f"{path}.params.checkpoint: the weights to fine-tune: {error}")
    except UserError as error:
        report.problems.append(f"{path}.params.checkpoint: {error}")


def compare_shapes(node: Any, checkpoint: str) -> Any:
    """Compare a first stage's node with the weights that it is to load; returns the node.

    Raises:
        MissingFile: the weights are missing.
        UserError: names the first difference.
    """
    with on_meta():
        model = build(node, AllowedTargets(), "first_stage")
    source = first_stage_source(checkpoint, model)
    require_fit(model, source.weights.chosen(), source.path)
    return node


def build_on_meta(node: Any, config: Config, trust: AllowedTargets, report: Report) -> Any:
    """The model at full size on the meta device."""
    if _lacks_first_stage(node):
        report.missing.append("model: cannot be built: the first stage's architecture is in the missing checkpoint")
        return None
    try:
        with on_meta():
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
    """Missing files of the parts of a model (weights of LPIPS, tokenizers)."""
    return [(f"model.{name}", error) for name, part in module.named_modules() if isinstance(part, NeedsFiles) for error in part.missing()]
