"""CompVis configs as configs of this project: translated by `ldm.interop`, with the nodes that load weights from files."""

from functools import partial
from typing import Any

from ldm.checkpoint.source import PRETRAINED
from ldm.config import Foreign
from ldm.interop import compvis


def _first_stage(checkpoint: str | None, model: dict[str, Any]) -> dict[str, Any]:
    return {"target": PRETRAINED, "params": {"checkpoint": checkpoint, "model": model}}


def _start(checkpoint: str) -> dict[str, Any]:
    return {"target": "ldm.checkpoint.load.starting_weights", "params": {"checkpoint": checkpoint}}


FOREIGN = Foreign(compvis.is_compvis, partial(compvis.translate, first_stage=_first_stage, start=_start), compvis.WORDS)
