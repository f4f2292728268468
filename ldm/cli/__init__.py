"""What the scripts share: one vocabulary of flags, errors in one line, and the job of sampling and writing."""

from ldm.cli.flags import run_script, script_parser

__all__ = ["run_script", "script_parser"]
