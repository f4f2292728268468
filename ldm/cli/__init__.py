"""What the scripts share: one vocabulary of flags, errors in one line, and the job of sampling and writing."""

from ldm.cli.flags import load_from_flags, run_script, script_parser, settings_from_flags

__all__ = ["load_from_flags", "run_script", "script_parser", "settings_from_flags"]
