"""What goes wrong without a fault of the program, and the exit code of each."""

import re

from ldm.printable import message

WORKERS = re.compile(r"^ldm\.errors\.\w+: ", re.M)  # what a stack trace puts before our messages


class UserError(Exception):
    """Something the user wrote is wrong: a config, a flag, a file. One message that names it; no stack trace is shown.

    Names in it are shown as they are (`ldm.printable`). Of one that comes out of a loader's process, with that process's stack
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
