"""What goes wrong without a fault of the program, and the exit code of each."""


class UserError(Exception):
    """Something the user wrote is wrong: a config, a flag, a file. One message that names it; no stack trace is shown."""

    exit_code = 2


class MissingFile(UserError):
    """A file that the user named, or that a part needs, is not there. The message says what it is and where to put it."""

    exit_code = 3


class WriteError(UserError):
    """A file cannot be written: no room, no permission, no such place. The message names the file and the cause."""
