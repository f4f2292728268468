"""Where scripts and configs are: beside the package in a clone of the repository, in `ldm/shipped` of an installed package."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
INSTALLED = (PACKAGE / "shipped").is_dir()
ROOT = PACKAGE / "shipped" if INSTALLED else PACKAGE.parent


def config_file(path: Path) -> Path:
    """The file that `path` names. `configs/...` is a config of this project in every working directory that has no such file itself."""
    shipped = ROOT / path
    return shipped if path.parts[:1] == ("configs",) and not path.exists() and shipped.is_file() else path
