"""The user study: over real HTTP and in a real browser; votes survive kills, and shares are what a formula says."""

import contextlib
import json
import math
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from browser import needs_browser, visit
from PIL import Image
from programs import Programs

from paper.user_study import TRUTH, UserStudy, Vote, Votes, read_votes, shares
from paper.user_study_page import StudyServer

COLOURS = {"conditions": (90, 90, 90), "truth": (0, 200, 0), "ours": (200, 0, 0), "theirs": (0, 0, 200)}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    for name, colour in COLOURS.items():
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("RGB", (8, 8), colour).save(tmp_path / name / f"{i}.png")
    return {name: tmp_path / name for name in COLOURS}


def task(folders: dict[str, Path], number: int, seconds: float = 0.0) -> UserStudy:
    methods = {name: folders[name] for name in ("ours", "theirs")}
    return UserStudy("superres", folders["conditions"], methods, folders["truth"] if number == 1 else None, seconds)


@pytest.fixture
def serve() -> Iterator:
    running = []

    def start(study: UserStudy, votes: Path) -> StudyServer:
        server = StudyServer(study, Votes(votes, study.seconds))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def ask(address: str, path: str, body: object = None, **headers: str) -> tuple[int, dict]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def decide(address: str, subject: str, prefer: tuple[int, int, int]) -> str:
    """Do as the page does: fetch, look, vote for the image of a colour, else the left one."""
    trial = ask(address, f"trial?subject={subject}")[1]
    chosen = "left"
    for side in ("left", "right", "middle"):
        with urllib.request.urlopen(f"{address}image?side={side}&number={trial['number']}&subject={subject}") as answer:
            pixel = Image.open(answer).getpixel((0, 0))
        assert (pixel == COLOURS["conditions"]) == (side == "middle")
        chosen = side if pixel == prefer else chosen
    assert ask(address, "shown", {"subject": subject, "pair": trial["pair"]})[0] == 200
    assert ask(address, "vote", {"subject": subject, "pair": trial["pair"], "chosen": chosen}) == (200, {"new": True})
    return trial["pair"]


def test_both_tasks_over_http(folders: dict[str, Path], serve, script, tmp_path: Path) -> None:
    for number, pairs in ((1, 8), (2, 4)):
        path = tmp_path / f"votes{number}.jsonl"
        address = serve(task(folders, number), path).address
        for _ in range(pairs):
            decide(address, "anna", COLOURS["ours"])
        assert ask(address, "trial?subject=anna")[1] == {"done": pairs, "all": pairs}
        assert ask(address, "trial?subject=ben")[1]["done"] == 0
        votes = read_votes(path)
        assert len({vote.pair for vote in votes}) == pairs and {vote.task for vote in votes} == {number}
        done = script("scripts/user_study.py", "--results", path)
        rival = TRUTH if number == 1 else "theirs"
        assert f"task {number}, superres: ours preferred to {rival} in 4 of 4 votes of 1 subjects, 100.0%" in done.stdout


def test_sides_and_order_are_by_chance_but_the_same_again(folders: dict[str, Path]) -> None:
    study, again = task(folders, 1), task(folders, 1)
    assert study.order("anna") == again.order("anna") != study.order("ben")
    sides = Counter(study.trial(f"subject {i}", pair).left[0] == TRUTH for i in range(50) for pair in study.pairs)
    assert 140 < sides[True] < 260  # of 400
    assert study.trial("anna", study.order("anna")[0]) == again.trial("anna", again.order("anna")[0])


def test_what_is_refused(folders: dict[str, Path], serve, tmp_path: Path) -> None:
    address = serve(task(folders, 2, seconds=3600), tmp_path / "votes.jsonl").address
    vote = {"subject": "anna", "pair": "0", "chosen": "left"}
    assert ask(address, "vote", vote) == (409, {"error": "the pair must be seen for 3600 seconds first"})
    ask(address, "shown", vote)
    assert ask(address, "vote", vote)[0] == 409  # too early
    for path, body, code in (
        ("vote", {**vote, "chosen": "middle"}, 400),
        ("vote", {**vote, "pair": "4"}, 404),
        ("vote", {**vote, "subject": ""}, 400),
        ("vote", [1], 400),
        ("trial", None, 400),
        ("image?subject=anna&number=0&side=../../x", None, 404),
        ("../votes.jsonl", None, 404),
    ):
        assert ask(address, path, body)[0] == code, path
    assert ask(address, "vote", vote, **{"Content-Type": "text/plain"})[0] == 400
    assert ask(address, "trial?subject=anna", Host="evil.example")[0] == 403
    assert ask(address, "vote", {**vote, "pair": "9" * 5000})[0] == 404
    assert read_votes(tmp_path / "votes.jsonl") == []


JSON = "Content-Type: application/json\r\n"
MALFORMED = {  # what a client may send, after the address and the host -> the status it is answered with
    "no length": (f"POST /vote HTTP/1.1\r\n{JSON}", b"{}", 400),
    "a length that is none": (f"POST /vote HTTP/1.1\r\n{JSON}Content-Length: ten\r\n", b"{}", 400),
    "a negative length": (f"POST /vote HTTP/1.1\r\n{JSON}Content-Length: -1\r\n", b"{}", 400),
    "a huge length": (f"POST /vote HTTP/1.1\r\n{JSON}Content-Length: 99999999999999\r\n", b"{}", 400),
    "a length of 5000 digits": (f"POST /vote HTTP/1.1\r\n{JSON}Content-Length: {'9' * 5000}\r\n", b"{}", 400),
    "a body that is longer than it says": (f"POST /vote HTTP/1.1\r\n{JSON}Content-Length: 2\r\n", b"{}" + b"x" * 300_000, 400),
    "a large body": (f"POST /vote HTTP/1.1\r\n{JSON}Content-Length: 300000\r\n", b"x" * 300_000, 400),
    "another type": ("POST /vote HTTP/1.1\r\nContent-Type: text/html\r\nContent-Length: 2\r\n", b"{}", 400),
    "no type": ("POST /vote HTTP/1.1\r\nContent-Length: 2\r\n", b"{}", 400),
    "in chunks": (f"POST /vote HTTP/1.1\r\n{JSON}Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n", 400),
    "an address that is none": ("GET http://[ HTTP/1.1\r\n", b"", 400),
    "another method": ("DELETE / HTTP/1.1\r\n", b"", 501),
    "no request at all": ("\x00\x01\x02\r\n", b"", 400),
}
BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 9_000,
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "a long number": b'{"subject": "a", "pair": ' + b"9" * 5_000 + b"}",
    "no subject": b'{"pair": "0"}',
    "a subject of another kind": b'{"subject": {"a": 1}, "pair": "0"}',
    "half a letter": b'{"subject": "\\ud800", "pair": "0"}',
    "a pair of another kind": b'{"subject": "a", "pair": [{}], "chosen": "left"}',
    "a side of another kind": b'{"subject": "a", "pair": "0", "chosen": {"left": []}}',
    "NaN": b'{"subject": "a", "pair": NaN, "chosen": "left"}',
}


def talk(port: int, words: bytes, finish: bool = False) -> bytes:
    """Send bytes, and read all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(words)
        if finish:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_whatever_a_client_sends_the_study_answers_and_goes_on(
    folders: dict[str, Path], serve, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(task(folders, 2), tmp_path / "votes.jsonl")
    host = f"Host: 127.0.0.1:{server.server_port}\r\n"
    for what, (head, body, status) in MALFORMED.items():
        answer = talk(server.server_port, f"{head}{host}\r\n".encode() + body)
        assert f" {status} ".encode() in answer.split(b"\r\n")[0] or (status == 400 and b"Error code: 400" in answer), (what, answer[:200])
    for address in ("/vote", "/shown"):
        for what, body in BODIES.items():
            if address == "/shown" and "side" in what:  # which it does not read
                continue
            head = f"POST {address} HTTP/1.1\r\n{JSON}{host}Content-Length: {len(body)}\r\n\r\n"
            answer = talk(server.server_port, head.encode() + body)
            assert answer.split(b" ")[1] in (b"400", b"404") and json.loads(answer.partition(b"\r\n\r\n")[2])["error"], (what, answer)
    cut = talk(server.server_port, f"POST /vote HTTP/1.1\r\n{JSON}{host}Content-Length: 50\r\n\r\n{{}}".encode(), finish=True)
    assert b" 400 " in cut.split(b"\r\n")[0] and b"ends after 2 of 50 bytes" in cut
    assert ask(server.address, "/trial?subject=anna")[0] == 200 and not read_votes(tmp_path / "votes.jsonl")
    assert "Traceback" not in capfd.readouterr().err and not caplog.text


def test_a_slow_client_gets_so_many_seconds_and_keeps_nobody_waiting(
    folders: dict[str, Path], serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paper.user_study_page.Handler.seconds", 0.5)
    server = serve(task(folders, 2), tmp_path / "votes.jsonl")
    host = f"Host: 127.0.0.1:{server.server_port}\r\n"
    slow = [socket.create_connection(("127.0.0.1", server.server_port), timeout=20) for _ in range(20)]
    for connection in slow[:10]:
        connection.sendall(b"GET / HT")  # and then nothing
    for connection in slow[10:]:
        connection.sendall(f"POST /vote HTTP/1.1\r\n{JSON}{host}Content-Length: 50\r\n\r\n".encode())
    assert ask(server.address, "/trial?subject=anna")[0] == 200

    def drip(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for _ in range(60):
                connection.sendall(b" ")
                time.sleep(0.1)

    dripping = threading.Thread(target=drip, args=(slow[10],), daemon=True)
    dripping.start()
    answers = [connection.recv(65536) for connection in slow]  # each ends, with an answer if the request was known
    assert set(answers[:10]) == {b""} and all(not answer or b" 408 " in answer for answer in answers[10:])
    assert ask(server.address, "/trial?subject=anna")[0] == 200
    for connection in slow:
        connection.close()


def test_a_picture_that_is_gone_and_a_vote_that_cannot_be_written_are_said(
    folders: dict[str, Path], serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(task(folders, 2), tmp_path / "votes.jsonl")
    for path in folders["conditions"].iterdir():
        path.unlink()
    status, said = ask(server.address, "/image?side=middle&number=0&subject=anna")
    assert status == 500 and "No such file" in said["error"]
    assert ask(server.address, "/shown", {"subject": "anna", "pair": "0"})[0] == 200

    def full(*words: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("paper.user_study.append_line", full)
    status, said = ask(server.address, "/vote", {"subject": "anna", "pair": "0", "chosen": "left"})
    assert status == 500 and "No space left" in said["error"]
    monkeypatch.undo()
    assert ask(server.address, "/vote", {"subject": "anna", "pair": "0", "chosen": "left"}) == (200, {"new": True})


def test_a_page_that_is_loaded_again_shows_a_pair_only_for_the_rest_of_its_time(folders: dict[str, Path], serve, tmp_path: Path) -> None:
    address = serve(task(folders, 2, seconds=3600), tmp_path / "votes.jsonl").address
    looked = {"subject": "anna", "pair": "0"}
    first, again = (ask(address, "shown", looked)[1]["seconds"] for _ in range(2))
    assert 3590 < again < first <= 3600
    over = serve(task(folders, 2), tmp_path / "votes0.jsonl").address
    assert [ask(over, "shown", looked)[1]["seconds"] for _ in range(2)] == [0, 0]


def test_votes_survive_kills_and_come_once(folders: dict[str, Path], programs: Programs, tmp_path: Path) -> None:
    """SIGKILL after every vote; the study goes on, and a line that was cut off costs nothing else."""
    path = tmp_path / "votes.jsonl"
    words = ["--kind", "superres", "--conditions", folders["conditions"], "--votes", path, "--seconds", 0]
    words += ["--method", f"ours={folders['ours']}", "--method", f"theirs={folders['theirs']}"]
    for i in range(3):
        process, said = programs.start_and_read(["scripts/user_study.py", *words], "stdout")
        address = next(hit[1] for line in said if (hit := re.match(r"open (\S+)", line)))
        assert ask(address, "trial?subject=anna")[1]["done"] == i
        pair = decide(address, "anna", COLOURS["ours"])
        assert ask(address, "vote", {"subject": "anna", "pair": pair, "chosen": "left"}) == (200, {"new": False})
        process.send_signal(signal.SIGKILL)
        process.wait()
        with open(path, "a") as file:
            file.write('{"time": "2026')  # as if killed while writing the next
    assert len(read_votes(path)) == 3 and len({vote.pair for vote in read_votes(path)}) == 3


def test_shares_and_their_interval() -> None:
    def vote(i: int, seconds: float = 3.0) -> Vote:
        return Vote("", f"s{i % 5}", 2, "superres", f"{i}", "a", "b", "a" if i < 706 else "b", seconds, 4.0)

    a, b = shares([vote(i) for i in range(1000)])
    assert (a.method, a.wins, a.votes, a.subjects) == ("a", 706, 1000, 5) and b.wins == 294
    z, p, n = 1.959964, 0.706, 1000
    centre, half = (p + z * z / 2 / n) / (1 + z * z / n), z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    assert (a.low, a.high) == (pytest.approx(centre - half), pytest.approx(centre + half)) and b.low == pytest.approx(1 - a.high)
    with pytest.raises(Exception, match="more than one study"):
        shares([vote(0), vote(1, 1.0)])


def test_a_vote_counts_once_and_is_for_one_of_its_pair(script, tmp_path: Path) -> None:
    def line(chosen: str, subject: str = "s") -> str:
        vote = Vote("", subject, 2, "superres", "0", "a", "b", chosen, 3.0, 4.0)
        return json.dumps(asdict(vote)) + "\n"

    path = tmp_path / "votes.jsonl"
    path.write_text(line("a") + line("b") + '{"time": "20\n' + line("b", "t"))  # as from two servers at once, and a cut line
    assert [(vote.subject, vote.chosen) for vote in read_votes(path)] == [("s", "a"), ("t", "b")]
    said = script("scripts/user_study.py", "--results", path).stdout
    assert "a preferred to b in 1 of 2 votes" in said and "1 unreadable lines are left out: 3" in said
    path.write_text(line("c"))
    with pytest.raises(Exception, match="entry 1: not a vote"):
        read_votes(path)


def test_wrong_words_are_one_clear_line(folders: dict[str, Path], script, tmp_path: Path) -> None:
    given = ["--kind", "superres", "--conditions", folders["conditions"]]
    ours, theirs = (["--method", f"{name}={folders[name]}"] for name in ("ours", "theirs"))
    (tmp_path / "few").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "few" / "0.png")
    for name, size in (("large", 16), ("broken", 8)):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("RGB", (size, size)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "broken" / "2.png").write_text("no picture")
    (tmp_path / "old.jsonl").write_text(json.dumps(asdict(Vote("", "s", 2, "superres", "0", "a", "b", "a", 1.0, 4.0))) + "\n")
    for words, code, message in (
        ([], 2, "give --kind"),
        ([*given, *ours], 2, "task 2 compares two methods"),
        ([*given, *ours, *ours], 2, "each name once"),
        ([*given, *theirs, "--method", "ours"], 2, "expected NAME=DIR"),
        ([*given, *ours, "--truth", tmp_path / "nowhere"], 3, "no such folder"),
        ([*given, *ours, "--truth", tmp_path / "few"], 3, "ground truth: no image named 1 (3 of 4 are missing)"),
        ([*given, *ours, *theirs, "--seconds", -1], 2, "--seconds -1"),
        ([*given, *ours, *theirs, "--seconds", "nan"], 2, "--seconds: nan"),
        ([*given, *ours, "--truth", tmp_path / "large"], 2, "must be of one size"),
        ([*given, *ours, "--truth", tmp_path / "broken"], 2, "2.png: not a picture"),
        ([*given, *ours, *theirs, "--votes", tmp_path / "old.jsonl"], 2, "has votes on pairs that were seen for 1 seconds, not 3"),
        ([*given, *ours, *theirs, "--votes", tmp_path], 2, "Is a directory"),
        (["--results", tmp_path / "none.jsonl"], 3, "no such file of votes"),
    ):
        done = script("scripts/user_study.py", *words)
        assert done.returncode == code and message in done.stderr and "Traceback" not in done.stderr, done.stderr


@needs_browser
def test_the_page_in_a_browser(folders: dict[str, Path], serve, tmp_path: Path) -> None:
    """Start, look, answer, to the end: pictures are seen only for their time, and all votes arrive."""
    server = serve(task(folders, 2, seconds=0.05), tmp_path / "votes.jsonl")
    script = """
    const at = (id) => page.getElementById(id), seen = [];
    for (let i = 0; i < 3000 && !at('say').textContent.includes('Thank'); i++) {
      const hidden = at('images').classList.contains('hidden'), buttons = [...page.querySelectorAll('#buttons button')];
      if (!hidden) { seen.push(at('left').naturalWidth * at('middle').naturalWidth * at('right').naturalWidth); }
      if (buttons.length) { found.hidden = (found.hidden ?? true) && hidden; buttons[0].click(); }
      await wait(10);
    }
    found.seen = seen;
    """
    found = visit(tmp_path, f"{server.address}?subject=anna", script)
    assert "error" not in found and found["console"] == [] and found["overflow"] == 0, found
    assert "Thank you" in found["text"] and "4 of 4 decided" in found["text"], found["text"]
    assert found["hidden"] and found["seen"] and all(found["seen"]), found
    votes = read_votes(tmp_path / "votes.jsonl")
    assert len(votes) == 4 and all(vote.answered_seconds >= 0.05 for vote in votes)


@needs_browser
def test_a_subject_is_the_same_at_another_port(folders: dict[str, Path], serve, tmp_path: Path) -> None:
    """A study that is started again takes a free port; the browser still knows who looks."""
    study, files = task(folders, 2, seconds=0.05), [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    first, second = (serve(study, path) for path in files)
    script = f"""
    const at = (id) => page.getElementById(id), port = page.location.port;
    for (let i = 0; i < 3000 && !at('count').textContent.startsWith('2 of'); i++) {{
      const button = page.querySelector('#buttons button');
      if (button) {{ button.click(); }}
      await wait(10);
    }}
    if (port === '{first.server_port}') {{ document.getElementById('page').src = '{second.address}'; return; }}
    """
    found = visit(tmp_path, first.address, script)
    assert "error" not in found and "2 of 4 decided" in found["text"], found
    assert len({vote.subject for path in files for vote in read_votes(path)}) == 1
