"""`incidents.jsonl`: what happened in a run beside training, such as warnings, skipped samples and resumes."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ldm.errors import UserError, WriteError
from ldm.system.files import append_line
from ldm.system.terminal import message

log = logging.getLogger(__name__)


class Incidents:
    """Appends lines to `incidents.jsonl` in the run folder.

    Attributes:
        step: the current step, for failures.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        self.folder, self.step = folder, step
        self.reported: set[str] = set()
        self.causes: list[BaseException] = []

    def add(self, step: int, kind: str, text: str) -> None:
        """Append a line; if it cannot be written, training continues."""
        try:
            append_line(self.folder / "incidents.jsonl", json.dumps({"step": step, "kind": kind, "what": message(text)}))
        except WriteError as error:
            if "incidents" not in self.reported:
                self.reported.add("incidents")
                log.warning("warning: %s", error)

    def failure(self, what: str, error: BaseException) -> None:
        """Report the first failure of something that training can continue without."""
        cause = root_cause(error)
        if what in self.reported or any(cause is one for one in self.causes):
            return
        self.reported.add(what)
        self.causes.append(cause)
        text = f"{what}: {one_line(error)}; training continues, and this is not reported again"
        log.warning("step %d: warning: %s", self.step, text)
        self.add(self.step, "warning", text)

    @contextmanager
    def tolerated(self, what: str) -> Iterator[None]:
        """Context in which an error is reported and ends only the block itself."""
        try:
            yield
        except Exception as error:
            self.failure(what, error)


def root_cause(error: BaseException) -> BaseException:
    """The underlying OSError of an error, if any; else the error."""
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, OSError):
            return one
        one = one.__cause__ or one.__context__
    return error


def one_line(error: BaseException) -> str:
    """An error in one line; an unexpected one with its location."""
    if isinstance(error, UserError):
        return (str(error).strip().splitlines() or [""])[0]
    error = root_cause(error)
    text = (str(error).strip().splitlines() or [""])[0]
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})"
    return f"{type(error).__name__}: {text}{where}"
