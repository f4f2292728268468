"""Names that strangers chose: no terminal obeys them and no line breaks in them, wherever they are told."""

import io
import json
import logging
import sys
from pathlib import Path

import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ldm.cli import run_script
from ldm.errors import MissingFile, UserError
from ldm.evaluation.runs import read_lines
from ldm.system.terminal import log_to_terminal, message, printable
from ldm.training.callbacks.incidents import Incidents

HOSTILE = "a\nb\x1b[31m\x1b]0;title\x07\tc\r\x9b2J\u202egpj.\u2028png\udce9"
SHOWN = "a\\nb\\x1b[31m\\x1b]0;title\\x07\\tc\\r\\x9b2J\\u202egpj.\\u2028png\\xe9"


def test_what_is_seen_stays_and_what_acts_is_spelled() -> None:
    assert printable(HOSTILE) == SHOWN and printable(printable(HOSTILE)) == SHOWN
    for name in ("caf\u00e9", "\u65e5\u672c", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "it's [a] {b} $HOME", "C:\\new\\table"):
        assert printable(name) == name
    assert message(f"wrong:\n  first {HOSTILE}\n  second") == f"wrong:\n  first {SHOWN}\n  second"
    assert str(UserError(f"{HOSTILE}: no such file")) == f"{SHOWN}: no such file"


class Broken(Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        raise MissingFile(f"{HOSTILE} is not there:\n  first\n  second")


def test_of_an_error_in_a_loader_process_the_message_is_told() -> None:
    with pytest.raises(MissingFile) as caught:
        list(DataLoader(Broken(), num_workers=1))
    assert str(caught.value) == f"{SHOWN} is not there:\n  first\n  second"


def test_log_lines_and_error_lines(monkeypatch: pytest.MonkeyPatch, script, tmp_path: Path) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.WARNING)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    log_to_terminal()
    logging.getLogger("ldm.x").info("%s: 3 pictures\nnext", "\x1b[31m\u202e")
    logging.getLogger("ldm.x").debug("not told")
    assert sys.stderr.getvalue() == "\\x1b[31m\\u202e: 3 pictures\nnext\n"  # type: ignore[attr-defined]


def test_a_script_names_a_file_without_obeying_it(script, tmp_path: Path) -> None:
    done = script("scripts/sample.py", tmp_path / "a\x1b[31m\nb")
    assert done.returncode == 3 and "a\\x1b[31m\\nb" in done.stderr and "\x1b" not in done.stderr and done.stderr.count("\n") == 1


def test_what_a_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """Such as the notes of a converted checkpoint, whose keys a stranger wrote."""

    def main(words: list[str] | None) -> int:
        sys.stdout.writelines(["a\tb \x1b[31m\u202e caf\u00e9 \udce9\n", "next\n"])
        print("and", "\x9b2J")
        return 0

    assert run_script(main) == 0 and capsys.readouterr().out == "a\tb \\x1b[31m\\u202e caf\u00e9 \\xe9\nnext\nand \\x9b2J\n"


def test_an_incident_is_one_line(tmp_path: Path) -> None:
    Incidents(tmp_path).add(3, "skipped sample", HOSTILE)
    data = (tmp_path / "incidents.jsonl").read_bytes()
    assert data.count(b"\n") == 1 and data.strip().isascii() and data.decode().strip().isprintable()
    assert [row["what"] for row in read_lines(tmp_path / "incidents.jsonl")[0]] == [json.loads(data)["what"]] == [SHOWN]


def test_names_in_pictures_of_a_set_of_files(script, tmp_path: Path) -> None:
    for name in ("ok.png", "a\x1b[31m\nb.png"):
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    (tmp_path / "c\u202e.png").write_bytes(b"broken")
    node = f"{{target: ldm.data.ImageFolder, params: {{root: {tmp_path}, size: 32}}}}"
    (tmp_path / "data.yaml").write_text(f"data: {{params: {{batch_size: 2, train: {node}}}}}\n")
    done = script("scripts/inspect_data.py", "--base", tmp_path / "data.yaml", "--outdir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out" / "broken.txt").read_text().splitlines()
    assert len(lines) == 1 and "c\\u202e.png: cannot be read" in lines[0]
    for line in [*lines, *done.stdout.splitlines()]:
        assert line.isprintable(), repr(line)
