"""Text with names in it that strangers chose, made so that no terminal obeys it and no line breaks in it."""

import logging
import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from contextlib import AbstractContextManager, redirect_stdout, suppress
from typing import Any, TextIO

from tqdm import tqdm

INDENTED = re.compile(r"\n(?=  )")  # how a message of several lines goes on


def printable(text: object) -> str:
    """One line in which every character is seen as it is: escape codes, line breaks, tabs, marks that turn the direction of
    writing, and bytes of names that are not UTF-8 appear as their codes; `é` and `日本` stay."""
    return "".join(map(_shown, str(text)))


def message(text: object) -> str:
    """As `printable`, but a line break with an indented line behind it stays: so, and only so, do messages go on."""
    return "\n".join(map(printable, INDENTED.split(str(text))))


def each_line(text: str) -> str:
    """As `printable`, with all its line breaks: what was put together of lines that have none in their names."""
    return "\n".join(map(printable, text.split("\n")))


def _shown(character: str) -> str:
    # Controls, formats (marks of direction; but not what joins the parts of an emoji or of a word), halves of characters.
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in "\u200c\u200d":
        return f"\\x{ord(character) - 0xDC00:02x}" if 0xDC80 <= ord(character) <= 0xDCFF else repr(character)[1:-1]
    return character


class Lines(logging.Formatter):
    """Log lines as `message` shows them."""

    def format(self, record: logging.LogRecord) -> str:
        stack = record.exc_info or record.stack_info
        return super().format(record) if stack else each_line(super().format(record))


class BesideBars(logging.StreamHandler):  # type: ignore[type-arg]
    """Log lines above the progress bars on the same terminal, which go on below them."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=self.stream)
            self.flush()
        except Exception:  # as every handler of logging does: what is logged must not end the program
            self.handleError(record)


def log_to_terminal() -> None:
    """What the entry points do first: information and warnings go to standard error, one message a line, beside progress bars."""
    logging.captureWarnings(True)
    handler = BesideBars(sys.stderr)
    handler.setFormatter(Lines("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class Spelled:
    """A stream whose text passes through `each_line`."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """As a stream's own, in which a tab and the break of a line count as written."""
        return self.stream.write("\t".join(map(each_line, text.split("\t"))))

    def writelines(self, lines: Iterable[str]) -> None:
        """As a stream's own."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def spelled_output() -> AbstractContextManager[Any]:
    """Standard output while an entry point runs: what it prints may hold names, captions and notes that strangers wrote."""
    return redirect_stdout(Spelled(sys.stdout))  # type: ignore[type-var]


def flushed(code: int) -> int:
    """What the entry points do last: see that what was printed arrives. Returns the exit code, 2 where it cannot, as on a full disk."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError, ValueError):  # or Python tries again at its end, and shows a trace
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stderr.write(f"error: standard output: cannot be written ({error.strerror})\n")
        return code or 2
    return code
