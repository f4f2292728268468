"""Checks of a config before training (`--check`)."""

from ldm.check.config import check
from ldm.check.fit import sample_problems
from ldm.check.model import build_on_meta, count_parameters, without_checkpoints
from ldm.check.report import Report
from ldm.check.step import example_batch

__all__ = ["Report", "build_on_meta", "check", "count_parameters", "example_batch", "sample_problems", "without_checkpoints"]
