"""The page of the user study, served on this machine only: it shows a pair, hides it, asks, and sends the vote."""

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ldm.errors import UserError
from ldm.evaluation.page import render
from paper.user_study import QUESTIONS, TYPES, Trial, UserStudy, Vote, Votes

log = logging.getLogger(__name__)
LONGEST = 10_000  # bytes of a request's body
PAGE = render("user_study.html", Path(__file__).parent, title="Which image?").encode()


class Refused(Exception):
    """A request that is not answered: HTTP status, one line, and after how many seconds to try again."""

    def __init__(self, status: int, text: str, wait: float = 0.0) -> None:
        super().__init__(text)
        self.status, self.wait = status, wait


class StudyServer(ThreadingHTTPServer):
    """Serves a study at 127.0.0.1.

    Args:
        study: what is shown.
        votes: where votes go.
        port: 0 takes a free one.
    """

    daemon_threads = True

    def __init__(self, study: UserStudy, votes: Votes, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.study, self.votes = study, votes
        self.shown: dict[tuple[str, str], float] = {}  # when a pair was first shown, on this machine's clock

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect; log anything else in one line, and continue."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("a request failed: %s: %s", type(error).__name__, error)

    @property
    def address(self) -> str:
        """To open in a browser."""
        return f"http://127.0.0.1:{self.server_port}/"

    def next_trial(self, subject: str) -> dict[str, Any]:
        """What the page needs for the first pair that this subject has not decided; it does not tell which method is which."""
        order = self.study.order(subject)
        left = [i for i, pair in enumerate(order) if (subject, pair) not in self.votes.seen]
        progress = {"done": len(order) - len(left), "all": len(order)}
        if not left:
            return progress
        return {**progress, "number": left[0], "pair": str(left[0]), "question": QUESTIONS[self.study.kind]}

    def show(self, subject: str, number: object) -> float:
        """Start the clock of a pair; the seconds for which it is still shown, fewer if the page was reloaded."""
        pair = self.trial(subject, number).pair
        return max(0.0, self.shown.setdefault((subject, pair), time.monotonic()) + self.study.seconds - time.monotonic())

    def trial(self, subject: str, number: object) -> Trial:
        """The pair with this number in the subject's order."""
        order = self.study.order(subject)
        if str(number) not in map(str, range(len(order))):
            raise Refused(404, f"no pair {str(number)[:20]!r}")
        return self.study.trial(subject, order[int(str(number))])

    def take_vote(self, subject: str, body: dict[str, Any]) -> dict[str, Any]:
        """Write a vote, which must come after the pair was shown for its time."""
        trial, side = self.trial(subject, body.get("pair")), body.get("chosen")
        if side not in ("left", "right"):
            raise Refused(400, f"chosen: expected left or right, got {side!r}")
        if (subject, trial.pair) in self.votes.seen:
            return {"new": False}
        begun = self.shown.get((subject, trial.pair))
        left = 0.0 if begun is None else begun + self.study.seconds - time.monotonic()
        if begun is None or left > 0:
            raise Refused(409, f"the pair must be seen for {self.study.seconds:g} seconds first", wait=left)
        vote = Vote(
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            subject=subject,
            task=self.study.task,
            kind=self.study.kind,
            pair=trial.pair,
            left=trial.left[0],
            right=trial.right[0],
            chosen=(trial.left if side == "left" else trial.right)[0],
            shown_seconds=self.study.seconds,
            answered_seconds=round(time.monotonic() - begun, 3),
        )
        return {"new": self.votes.add(vote)}


class Handler(BaseHTTPRequestHandler):
    """The page, the next trial, its images; a pair that is shown, a vote. A connection is closed after `seconds`, however slow it is."""

    server: StudyServer
    seconds = 10.0

    def setup(self) -> None:
        super().setup()
        self.limit = threading.Timer(self.seconds, self._disconnect)
        self.limit.daemon = True
        self.limit.start()

    def finish(self) -> None:
        self.limit.cancel()
        super().finish()

    def _disconnect(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:  # noqa: N802
        """The page, a trial, an image."""
        self._answer(self._get)

    def do_POST(self) -> None:  # noqa: N802
        """A pair is shown from now on; a vote."""
        self._answer(self._post)

    def _get(self) -> tuple[bytes, str]:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == "/":
            return PAGE, "text/html; charset=utf-8"
        if url.path == "/trial":
            return json.dumps(self.server.next_trial(_subject(query))).encode(), "application/json"
        if url.path == "/image":
            trial = self.server.trial(_subject(query), query.get("number"))
            files = {"left": trial.left[1], "middle": trial.middle, "right": trial.right[1]}
            if query.get("side") not in files:
                raise Refused(404, "no such image")
            file = files[query["side"]]
            return file.read_bytes(), TYPES[file.suffix.lower()]
        raise Refused(404, "no such page")

    def _post(self) -> tuple[bytes, str]:
        # Other sites that are open in the browser cannot send this content type without permission.
        length = int(self.headers.get("Content-Length", -1))
        if self.headers.get_content_type() != "application/json" or not 0 <= length <= LONGEST:
            raise Refused(400, "expected a short JSON object")
        content = self.rfile.read(length)
        if len(content) < length:
            raise Refused(400, f"the body ends after {len(content)} of {length} bytes")
        try:
            body = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"not JSON: {error}") from error
        subject = _subject(body)
        if self.path == "/shown":
            return json.dumps({"seconds": self.server.show(subject, body.get("pair"))}).encode(), "application/json"
        if self.path == "/vote":
            return json.dumps(self.server.take_vote(subject, body)).encode(), "application/json"
        raise Refused(404, "no such page")

    def _answer(self, make: Callable[[], tuple[bytes, str]]) -> None:
        said: dict[str, Any] = {}
        try:
            if self.headers.get("Host") not in (f"127.0.0.1:{self.server.server_port}", f"localhost:{self.server.server_port}"):
                raise Refused(403, "this page is for this machine only")
            (content, kind), status = make(), 200
        except Refused as error:
            status, said = error.status, {"error": str(error), **({"wait": error.wait} if error.wait else {})}
        except ValueError as error:  # an address, a length or a name that cannot be parsed
            status, said = 400, {"error": str(error)}
        except (OSError, UserError) as error:  # a picture that is gone, a vote that cannot be written
            status, said = 500, {"error": str(error)}
        if said:
            content, kind = json.dumps(said).encode(), "application/json"
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(content))), ("Cache-Control", "no-store")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        if said:  # a connection that is closed while bytes are unread loses the answer
            self.connection.shutdown(socket.SHUT_WR)
            while self.rfile.read1(LONGEST):
                pass

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the votes are the record."""


def _subject(words: Any) -> str:
    subject = words.get("subject") if isinstance(words, dict) else None
    if not isinstance(subject, str) or not 1 <= len(subject) <= 100:
        raise Refused(400, "subject: expected a name of 1 to 100 letters")
    return subject
