"""Errors that are not faults of the program, with their exit codes; and messages for unexpected errors."""

import errno
import re
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from ldm.system.terminal import message

WORKERS = re.compile(r"^ldm\.errors\.\w+: ", re.M)  # the prefix of our messages in a stack trace
NO_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")  # in messages of CUDA and MPS, of the CPU, and of cuBLAS


class UserError(Exception):
    """Wrong user input: a config, a flag, a file. The message names it; no stack trace is shown.

    Control characters in names are escaped (`ldm.system.terminal`). For an error from a data loader's process, only the message is
    shown, not that process's stack trace.
    """

    exit_code = 2

    def __str__(self) -> str:
        text = super().__str__()
        return message(WORKERS.split(text)[-1].rstrip() if "Original Traceback" in text else text)


class MissingFile(UserError):
    """A file that the user named, or that a part needs, is missing. The message says what it is and where to put it."""

    exit_code = 3


class WriteError(UserError):
    """A file cannot be written: no space, no permission, no such folder. The message names the file and the cause."""


def out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine ran out of memory."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY))


def unexpected(error: BaseException, advice: str) -> str:
    """One line for an unexpected error; its stack trace is written to a file that the line names.

    Args:
        error: any.
        advice: what to do about a lack of memory.
    """
    if out_of_memory(error):
        return f"out of memory: {advice}"
    first = (plain(error).strip().splitlines() or ["no reason is given"])[0]
    try:
        with tempfile.NamedTemporaryFile("w", prefix="ldm-error-", suffix=".txt", delete=False, encoding="utf-8") as file:
            file.writelines(traceback.format_exception(error))
        where = f"; please report it with {file.name}"
    except OSError:
        where = ""
    return message(f"unexpected {type(error).__name__}: {first}: an error of the program itself{where}")


def plain(error: BaseException) -> str:
    """An error's message; from a data loader's process it follows that process's stack trace."""
    text = str(error).rstrip()
    return text.rpartition(f"{type(error).__name__}: ")[2] if "Original Traceback" in text else text


@contextmanager
def understood(what: object) -> Iterator[None]:
    """Context in which untrusted content of any structure is read: a number for a mapping, a division by zero, endless nesting.

    Raises:
        UserError: the content has an unexpected structure; names what was read.
    """
    try:
        yield
    except (TypeError, AttributeError, LookupError, ValueError, ArithmeticError, RecursionError) as error:
        text = (str(error).splitlines() or [""])[0]
        raise UserError(f"{what}: cannot be understood ({type(error).__name__}: {text})") from error
