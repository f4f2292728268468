"""The page of the user study, on this machine alone: it shows a pair, hides it, asks, and hands the vote over."""

import io
import json
import logging
import socket
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ldm.errors import UserError
from paper.user_study import QUESTIONS, TYPES, Trial, UserStudy, Vote, Votes

log = logging.getLogger(__name__)
LONGEST = 10_000  # bytes of a body
MOST_SWALLOWED = 1_000_000  # bytes of a refused one that are read
LINGER = 1.0  # seconds for that
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><title>Which image?</title>
<style>
body { font: 18px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; text-align: center;
  color: #222; background: #fff }
#images { display: grid; grid-template-columns: repeat(3, 1fr); gap: .5rem } #images.hidden { visibility: hidden }
img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #eee } button { font: inherit; padding: .6rem 1.5rem; margin: .5rem }
</style></head><body>
<p id="say"></p><div id="images" class="hidden"><img id="left" alt="left"><img id="middle" alt="input"><img id="right" alt="right"></div>
<p id="buttons"></p><p id="count"></p>
<script>
const at = (id) => document.getElementById(id), wait = (ms) => new Promise((done) => setTimeout(done, ms));
// In a cookie, which all ports share: the study may have another port when it goes on.
const kept = document.cookie.match(/(?:^|; )subject=([^;]*)/);
const subject = new URLSearchParams(location.search).get('subject') || (kept && decodeURIComponent(kept[1])) || crypto.randomUUID();
document.cookie = 'subject=' + encodeURIComponent(subject) + '; max-age=31536000; path=/; SameSite=Strict';
function choose(labels) {
  return new Promise((done) => {
    const finish = (label) => { at('buttons').replaceChildren(); document.onkeydown = null; done(label); };
    at('buttons').replaceChildren(...labels.map((label) => {
      const button = document.createElement('button');
      button.textContent = label; button.onclick = () => finish(label);
      return button;
    }));
    const keys = {ArrowLeft: 'left', ArrowRight: 'right'};
    document.onkeydown = (event) => { if (labels.includes(keys[event.key])) { finish(keys[event.key]); } };
  });
}
async function post(path, body) {
  const answer = await fetch(path, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)});
  const said = await answer.json();
  if (said.wait) { await wait(said.wait * 1000); return post(path, body); }  // the two clocks differ a little
  if (!answer.ok) { throw new Error(said.error); }
  return said;
}
async function next() {
  const trial = await (await fetch('/trial?subject=' + encodeURIComponent(subject))).json();
  at('count').textContent = trial.done + ' of ' + trial.all + ' decided';
  if (!trial.pair) { at('say').textContent = 'That was the last pair. Thank you!'; return false; }
  const sides = ['left', 'middle', 'right'];
  await Promise.all(sides.map((side) => {
    at(side).src = '/image?side=' + side + '&number=' + trial.number + '&subject=' + encodeURIComponent(subject);
    return at(side).decode();
  }));
  at('say').textContent = trial.question;
  const {seconds} = await post('/shown', {subject, pair: trial.pair});  // less, down to none, if the page was loaded again
  if (seconds > 0) {
    at('images').classList.remove('hidden');
    await wait(seconds * 1000);
    at('images').classList.add('hidden');
  }
  const chosen = await choose(['left', 'right']);
  await post('/vote', {subject, pair: trial.pair, chosen});
  return true;
}
(async () => {
  at('say').textContent = 'You will see an image in the middle and two versions of it beside it, for a few seconds. Then decide.';
  await choose(['start']);
  try { while (await next()); }
  catch (error) { at('say').textContent = 'Something went wrong: ' + error.message + '. Load the page again.'; }
})();
</script></body></html>
"""


class Refused(Exception):
    """An answer that is no vote: HTTP status, one line, and after how many seconds it would be one."""

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
        self.shown: dict[tuple[str, str], float] = {}  # when a pair was first seen, on this machine's clock

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event; anything else is one line, and the study goes on."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("a request failed: %s: %s", type(error).__name__, error)

    @property
    def address(self) -> str:
        """To open in a browser."""
        return f"http://127.0.0.1:{self.server_port}/"

    def next_trial(self, subject: str) -> dict[str, Any]:
        """What the page needs for the first pair this subject has not decided; nothing in it tells the rivals apart."""
        order = self.study.order(subject)
        left = [i for i, pair in enumerate(order) if (subject, pair) not in self.votes.seen]
        progress = {"done": len(order) - len(left), "all": len(order)}
        if not left:
            return progress
        return {**progress, "number": left[0], "pair": str(left[0]), "question": QUESTIONS[self.study.kind]}

    def show(self, subject: str, number: object) -> float:
        """The pair is seen from now on: for how many seconds, of which a page that is loaded again gets what is left."""
        pair = self.trial(subject, number).pair
        return max(0.0, self.shown.setdefault((subject, pair), time.monotonic()) + self.study.seconds - time.monotonic())

    def trial(self, subject: str, number: object) -> Trial:
        """The pair at a place of a subject's order."""
        order = self.study.order(subject)
        if str(number) not in map(str, range(len(order))):
            raise Refused(404, f"no pair {str(number)[:20]!r}")
        return self.study.trial(subject, order[int(str(number))])

    def take_vote(self, subject: str, body: dict[str, Any]) -> dict[str, Any]:
        """Write a vote; it must come after the pair was seen for its time."""
        trial, side = self.trial(subject, body.get("pair")), body.get("chosen")
        if side not in ("left", "right"):
            raise Refused(400, f"chosen: expected left or right, got {side!r}")
        begun = self.shown.get((subject, trial.pair))
        if (subject, trial.pair) in self.votes.seen:
            return {"new": False}
        early = f"the pair must be seen for {self.study.seconds:g} seconds first"
        if begun is None:
            raise Refused(409, early)
        if (left := begun + self.study.seconds - time.monotonic()) > 0:
            raise Refused(409, early, wait=left)
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
    """Four addresses: the page, the next trial, its images, a vote.

    A request has so many seconds in all: a client that sends a byte now and then does not keep its thread.
    """

    server: StudyServer
    rfile: "Timed"
    seconds = 10.0

    def setup(self) -> None:
        super().setup()
        self.rfile = Timed(self.connection, time.monotonic() + self.seconds)

    def do_GET(self) -> None:  # noqa: N802
        """The page, a trial, an image."""
        self._answer(self._get)

    def do_POST(self) -> None:  # noqa: N802
        """A pair is seen from now on; a vote."""
        self._answer(self._post)

    def _get(self) -> tuple[bytes, str]:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == "/":
            return PAGE.encode(), "text/html; charset=utf-8"
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
        # Other sites that are open in the browser cannot send this type without being asked for.
        length = self.headers.get("Content-Length", "")
        if self.headers.get_content_type() != "application/json" or not length.isdecimal() or len(length) > 5 or int(length) > LONGEST:
            raise Refused(400, "expected a short JSON object")
        content = self.rfile.read(int(length))
        if len(content) < int(length):
            raise Refused(400, f"the body ends after {len(content)} of {int(length)} bytes")
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

    def _answer(self, make: Any) -> None:
        try:
            if self.headers.get("Host") not in (f"127.0.0.1:{self.server.server_port}", f"localhost:{self.server.server_port}"):
                raise Refused(403, "this page is for this machine alone")
            (content, kind), status = make(), 200
        except Refused as error:
            said = {"error": str(error), **({"wait": error.wait} if error.wait else {})}
            content, kind, status = json.dumps(said).encode(), "application/json", error.status
        except TimeoutError:  # before OSError, which it is a kind of
            content, kind, status = _error(f"the request took more than {self.seconds:g} seconds"), "application/json", 408
        except ValueError as error:  # an address or a word that cannot be taken apart
            content, kind, status = _error(str(error)), "application/json", 400
        except (OSError, UserError) as error:  # a picture that is gone, a vote that cannot be written: the page says so
            content, kind, status = _error(str(error)), "application/json", 500
        self.connection.settimeout(self.seconds)  # of reading, hardly any may be left
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(content))), ("Cache-Control", "no-store")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        if status != 200:
            self._swallow()

    def _swallow(self) -> None:
        """Read a little of what a refused client still sends: a connection closed on unread bytes takes the answer with it."""
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.rfile.deadline = min(self.rfile.deadline, time.monotonic() + LINGER)
        with suppress(OSError):
            for _ in range(MOST_SWALLOWED // LONGEST):
                if not self.rfile.read1(LONGEST):
                    break

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the votes are the record."""


class Timed(io.BufferedReader):
    """What a connection sends, until a moment on the clock.

    Raises:
        TimeoutError: on reading, after that moment.
    """

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.deadline = deadline

        class Raw(io.RawIOBase):
            def readable(raw) -> bool:  # noqa: N805
                return True

            def readinto(raw, buffer: Any) -> int:  # noqa: N805
                left = self.deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                connection.settimeout(left)
                return connection.recv_into(buffer)

        super().__init__(Raw())


def _error(text: str) -> bytes:
    return json.dumps({"error": text}).encode()


def _subject(words: Any) -> str:
    subject = words.get("subject") if isinstance(words, dict) else None
    if not isinstance(subject, str) or not 1 <= len(subject) <= 100 or any("\ud800" <= letter <= "\udfff" for letter in subject):
        raise Refused(400, "subject: expected a name of 1 to 100 letters")
    return subject
