"""Configs: load and merge YAML, validate it, then build objects."""

from ldm.config.build import build
from ldm.config.interpolation import allow_environment, literal
from ldm.config.load import Config, Foreign, load
from ldm.config.targets import AllowedTargets, trust_packages
from ldm.config.validate import Problem, require_shape, validate
from ldm.config.yaml_text import parse

__all__ = [
    "Config",
    "Foreign",
    "Problem",
    "AllowedTargets",
    "allow_environment",
    "build",
    "literal",
    "load",
    "parse",
    "require_shape",
    "trust_packages",
    "validate",
]
