"""What goes wrong without a fault of the program, and the exit code of each; and what errors of others mean."""

import errno
import re
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from ldm.system.terminal import message

WORKERS = re.compile(r"^ldm\.errors\.\w+: ", re.M)  # what a stack trace puts before our messages
NO_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")  # as CUDA and MPS, as the CPU, and as cuBLAS say it


class UserError(Exception):
    """Something the user wrote is wrong: a config, a flag, a file. One message that names it; no stack trace is shown.

    Names in it are shown as they are (`ldm.system.terminal`). Of one that comes out of a loader's process, with that process's stack
    trace, the message counts.
    """

    exit_code = 2

    def __str__(self) -> str:
        text = super().__str__()
        return message(WORKERS.split(text)[-1].rstrip() if "Original Traceback" in text else text)


class MissingFile(UserError):
    """A file that the user named, or that a part needs, is not there. The message says what it is and where to put it."""

    exit_code = 3


class WriteError(UserError):
    """A file cannot be written: no room, no permission, no such place. The message names the file and the cause."""


def out_of_memory(error: BaseException) -> bool:
    """Whether the memory of a device or of the machine did not suffice."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY))


def unexpected(error: BaseException, advice: str) -> str:
    """One line for an error that no part of the program expects; what Python says of it goes into a file that the line names.

    Args:
        error: any.
        advice: what helps where memory does not suffice.
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
    """An error's message; one from a loader's process carries that process's stack trace, of which it is the end."""
    text = str(error).rstrip()
    return text.rpartition(f"{type(error).__name__}: ")[2] if "Original Traceback" in text else text


@contextmanager
def understood(what: object) -> Iterator[None]:
    """Within, content of others is read that may have any shape: a number for a mapping, a zero to divide by, nesting without end.

    Raises:
        UserError: names what was read.
    """
    try:
        yield
    except (TypeError, AttributeError, LookupError, ValueError, ArithmeticError, RecursionError) as error:
        text = (str(error).splitlines() or [""])[0]
        raise UserError(f"{what}: cannot be understood ({type(error).__name__}: {text})") from error
