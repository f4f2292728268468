"""YAML to objects: load and merge, validate everything, then build."""

from ldm.config.build import build
from ldm.config.load import Config, Foreign, load, parse
from ldm.config.targets import Trust
from ldm.config.validate import Problem, validate

__all__ = ["Config", "Foreign", "Problem", "Trust", "build", "load", "parse", "validate"]
