"""The command lines: `main.py`, and what the scripts share."""

from ldm.cli.flags import script_parser
from ldm.cli.parser import Parser, run_script

__all__ = ["Parser", "run_script", "script_parser"]
