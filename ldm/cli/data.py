"""The data sets that a config names, without its model."""

from typing import Any

from ldm.checkpoint.foreign import FOREIGN
from ldm.config import AllowedTargets, build, load, validate
from ldm.errors import UserError
from ldm.training import DataModule


def open_data(files: list[str], overrides: list[str], trust: AllowedTargets) -> tuple[DataModule, dict[str, Any]]:
    """The data of a config, and its node in the config; its model and trainer may be wrong or absent.

    Raises:
        UserError: the config's data is wrong, or there is none.
        MissingFile: files are missing.
    """
    config = load(files, overrides, foreign=FOREIGN, trust=trust)
    if "data" not in config.data:
        raise UserError(f"{files[-1]}: has no data:")
    if problems := [str(p) for p in validate(config, trust) if p.path.split(".")[0] == "data"]:
        raise UserError("the config is wrong:\n  " + "\n  ".join(problems))
    data = build(config.data["data"], trust.for_data(), "data")
    if not isinstance(data, DataModule):
        raise UserError(f"data: expected a DataModule, got {type(data).__name__}")
    return data, config.data["data"]
