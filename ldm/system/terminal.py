"""Escape untrusted text, so that it neither controls the terminal nor breaks lines."""

import logging
import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from contextlib import AbstractContextManager, redirect_stdout, suppress
from typing import Any, TextIO

from tqdm import tqdm

INDENTED = re.compile(r"\n(?=  )")  # continuation of a message of several lines


def printable(text: object) -> str:
    """One line with all invisible characters escaped: escape codes, line breaks, tabs, marks of the direction of writing, and bytes
    that are not UTF-8; `é` and `日本` are kept."""
    return "".join(map(_shown, str(text)))


def message(text: object) -> str:
    """As `printable`, but a line break followed by an indented line is kept, as in messages of several lines."""
    return "\n".join(map(printable, INDENTED.split(str(text))))


def each_line(text: str) -> str:
    """As `printable`, but all line breaks are kept."""
    return "\n".join(map(printable, text.split("\n")))


def _shown(character: str) -> str:
    # Controls, formats (marks of direction, but not joiners of emoji or words), surrogates.
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in "\u200c\u200d":
        return f"\\x{ord(character) - 0xDC00:02x}" if 0xDC80 <= ord(character) <= 0xDCFF else repr(character)[1:-1]
    return character


class Lines(logging.Formatter):
    """Formats log records with `message`."""

    def format(self, record: logging.LogRecord) -> str:
        stack = record.exc_info or record.stack_info
        return super().format(record) if stack else each_line(super().format(record))


class BesideBars(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes log lines above the progress bars of the same terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=self.stream)
            self.flush()
        except Exception:  # as in every handler of logging: logging must not end the program
            self.handleError(record)


def log_to_terminal() -> None:
    """Set up logging of an entry point: information and warnings go to standard error, one message per line, above progress bars."""
    logging.captureWarnings(True)
    handler = BesideBars(sys.stderr)
    handler.setFormatter(Lines("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class EscapedStream:
    """A stream that passes its text through `each_line`."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """As in a stream; returns the number of characters of `text`."""
        return self.stream.write("\t".join(map(each_line, text.split("\t"))))

    def writelines(self, lines: Iterable[str]) -> None:
        """As in a stream."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def escaped_output() -> AbstractContextManager[Any]:
    """Standard output of an entry point, escaped: it may contain untrusted names, captions and notes."""
    return redirect_stdout(EscapedStream(sys.stdout))  # type: ignore[type-var]


def flushed(code: int) -> int:
    """Flush standard output at the end of an entry point; returns the exit code, or 2 if it cannot be written, as on a full disk."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError, ValueError):  # otherwise Python tries again at exit, and prints a stack trace
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stderr.write(f"error: standard output: cannot be written ({error.strerror})\n")
        return code or 2
    return code
