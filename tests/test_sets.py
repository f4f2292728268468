"""Sets of images: killed and continued, on several processes, never mixed, in the layouts that others read.

`KILLS=20 pytest tests/test_sets.py -k killed` kills as often as that.
"""

import errno
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_task_scripts import config_of, made, photo

from ldm.cli.condition_file import read_rows
from ldm.cli.other_conditions import entry
from ldm.data.batch import Key
from ldm.errors import UserError
from ldm.sampling.image_set import ImageSet, write_adm
from ldm.system import processes
from ldm.system.weights import save_weights

ROOT = Path(__file__).resolve().parent.parent
KILLS = int(os.environ.get("KILLS", "6"))
COUNT, BATCH = 60, 4
FAST = ["--steps", "3", "--device", "cpu"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, found = tmp_path_factory.mktemp("models"), {}
    for name in ("label", "caption", "layout", "semantic", "unconditional"):
        config = config_of(name)
        found[name] = folder / f"{name}.safetensors"
        save_weights(found[name], made(config["model"]["params"]["model"]).state_dict(), {"config": config, "step": 1})
    return found


def pictures(folder: Path) -> dict[str, bytes]:
    """Every picture of a set by its path; reading them all shows that none is damaged."""
    found = {}
    for path in sorted(folder.rglob("[0-9]*.png")):
        with Image.open(path) as opened:
            opened.load()
            found[str(path.relative_to(folder))] = np.asarray(opened).tobytes()
    return found


def forked(call: Callable[[], int]) -> int:
    """Begin a call in a copy of this process, in which everything is imported already; its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.setsid()
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
        processes.START = "fork"
        code = call()
    finally:
        os._exit(code)


def arguments(model: Path, outdir: Path, *more: Any) -> list[str]:
    return [str(model), "--n", str(COUNT), "--batch", str(BATCH), *FAST, "--outdir", str(outdir), *map(str, more)]


def sample(words: list[str]) -> int:
    import importlib.util

    from ldm.cli import run_script

    spec = importlib.util.spec_from_file_location("sample", ROOT / "scripts" / "sample.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return run_script(module.main, words)


@pytest.fixture(scope="module")
def whole(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set as one process makes it that nobody disturbs."""
    outdir = tmp_path_factory.mktemp("whole")
    assert sample(arguments(models["label"], outdir)) == 0
    return outdir


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork: starting Python anew for every kill takes too long")
@pytest.mark.parametrize("count", [1, 2])
def test_killed_at_any_moment_it_goes_on(models: dict[str, Path], tmp_path: Path, count: int) -> None:
    """SIGKILL at random moments: of the command alone (its processes must notice), or of one of its processes."""
    n, whole, outdir, chance = 12 * KILLS, tmp_path / "whole", tmp_path / "killed", random.Random(count)
    assert sample([*arguments(models["label"], whole), "--n", str(n)]) == 0
    expected, words = pictures(whole), arguments(models["label"], outdir, "--n", n, "--processes", count)
    codes = []
    while len(codes) < KILLS:
        before = pictures(outdir)
        most = max(0, (n - len(before)) // (KILLS - len(codes)) - 2 * BATCH)
        codes.append(killed(lambda: sample(words), outdir, len(before) + chance.randrange(most + 1), chance))
        now = pictures(outdir)
        assert before.items() <= now.items(), "a finished image vanished or changed"
        assert now.items() <= expected.items(), "an image that does not belong to the set"
        if now != expected:  # else the kill may have come after the work
            assert codes[-1] in (-signal.SIGKILL, 2), "where a process was killed, the command says so and ends"
    assert -signal.SIGKILL in codes
    assert os.waitstatus_to_exitcode(os.waitpid(forked(lambda: sample(words)), 0)[1]) == 0
    assert pictures(outdir) == expected
    assert not list(outdir.rglob("*.part")), "remains of killed processes"


def killed(call: Callable[[], int], outdir: Path, wanted: int, chance: random.Random) -> int:
    """Begin a call, kill it or one of its processes a moment after so many images are there; its exit code."""
    pid, end = forked(call), time.monotonic() + 300
    while len(list(outdir.glob("[0-9]*.png"))) < wanted and time.monotonic() < end:
        time.sleep(0.002)
    time.sleep(chance.random() * 0.1)
    try:
        os.kill(chance.choice([pid, *children_of(pid)]), signal.SIGKILL)
    except ProcessLookupError:  # that one had just ended
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # not Linux, or the process is gone
        return []


def test_two_real_processes_make_the_same_set(models: dict[str, Path], whole: Path, run, tmp_path: Path) -> None:
    done = run("scripts/sample.py", *arguments(models["label"], tmp_path, "--processes", 2), timeout=1200)
    assert done.returncode == 0, done.stderr
    assert pictures(tmp_path) == pictures(whole)


def test_any_batch_size_makes_the_same_set(models: dict[str, Path], whole: Path, script, tmp_path: Path) -> None:
    done = script("scripts/sample.py", *arguments(models["label"], tmp_path), "--batch", 7)
    assert done.returncode == 0, done.stderr
    for name, data in pictures(whole).items():
        ours = np.asarray(Image.open(tmp_path / name), dtype=np.int16)
        assert abs(ours - np.frombuffer(data, np.uint8).reshape(ours.shape)).max() <= 1


def test_a_batch_with_gaps_is_made_as_a_whole(models: dict[str, Path], whole: Path, script, tmp_path: Path) -> None:
    words = arguments(models["label"], tmp_path)
    assert script("scripts/sample.py", *words).returncode == 0
    kept = (tmp_path / "00006.png").stat().st_mtime_ns
    for number in (5, 59):
        (tmp_path / f"{number:05d}.png").unlink()
    done = script("scripts/sample.py", *words)
    assert done.returncode == 0 and "60 images" in done.stdout and "58 already existed" in done.stdout, done.stderr
    assert pictures(tmp_path) == pictures(whole) and (tmp_path / "00006.png").stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    "more,says",
    [
        (["--steps", 4], "steps was 3 and is 4"),
        (["--seed", 1], "seed was 0 and is 1"),
        (["--classes", "1,3"], "other conditions; classes was 12 of each of 5 and is 30 of each of 2"),
        (["--n", 61], "n was 60 and is 61"),
        (["--height", 32], "height was 16 and is 32"),
        (["--precision", "bf16"], "precision was fp32 and is bf16"),
    ],
)
def test_another_set_is_refused_in_one_line(models, whole: Path, script, more: list[Any], says: str) -> None:
    before = pictures(whole)
    done = script("scripts/sample.py", *arguments(models["label"], whole, *more))
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert says in done.stderr and "--overwrite" in done.stderr
    assert pictures(whole) == before


def test_another_model_and_pictures_of_unknown_origin_are_refused(models, whole: Path, script, tmp_path: Path) -> None:
    done = script("scripts/sample.py", *arguments(models["unconditional"], whole))
    assert done.returncode == 2 and "other weights" in done.stderr
    photo(tmp_path / "00003.png", 16, 16)
    words = arguments(models["unconditional"], tmp_path)
    done = script("scripts/sample.py", *words)
    assert done.returncode == 2 and "1 pictures are there, but no set.json" in done.stderr
    before = (tmp_path / "00003.png").read_bytes()
    assert script("scripts/sample.py", *words, "--overwrite").returncode == 0
    assert (tmp_path / "00003.png").read_bytes() != before and len(pictures(tmp_path)) == COUNT


def test_overwriting_leaves_nothing_of_the_old_set(models: dict[str, Path], script, tmp_path: Path) -> None:
    words = [models["label"], *FAST, "--outdir", tmp_path, "--npz"]
    foreign = photo(tmp_path / "00007.png", 16, 16).read_bytes()
    assert script("scripts/sample.py", *words, "--n", 6).returncode == 0
    assert script("scripts/sample.py", *words, "--n", 4, "--overwrite").returncode == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".lock", *(f"0000{i}.png" for i in (0, 1, 2, 3, 7)), "grid.png", "samples_4x16x16x3.npz", "set.json"]
    assert (tmp_path / "00007.png").read_bytes() == foreign  # never part of either
    assert script("scripts/sample.py", *words, "--n", 8, "--overwrite").returncode == 0
    assert (tmp_path / "00007.png").read_bytes() != foreign


def test_one_command_at_a_time(models: dict[str, Path], script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ldm.cli import sets
    from ldm.system import lock

    monkeypatch.setattr(sets, "PATIENCE", 0.1)
    with lock.locked(tmp_path, "the test"):
        done = script("scripts/sample.py", *arguments(models["label"], tmp_path))
    assert done.returncode == 2 and f"another command (process {os.getpid()} on" in done.stderr and not pictures(tmp_path)


def test_the_array_for_adm(models: dict[str, Path], whole: Path, script) -> None:
    done = script("scripts/sample.py", *arguments(models["label"], whole, "--npz"))
    assert done.returncode == 0 and "60 already existed" in done.stdout, done.stderr
    with np.load(whole / "samples_60x16x16x3.npz") as found:
        images, labels = found["arr_0"], found["arr_1"]
    assert images.dtype == np.uint8 and images.shape == (60, 16, 16, 3)
    assert [image.tobytes() for image in images] == list(pictures(whole).values())
    assert labels.tolist() == [json.loads(Image.open(path).text["ldm"])["label"] for path in ImageSet.read(whole).paths()]


def test_an_unfinished_or_damaged_set_makes_no_array(tmp_path: Path) -> None:
    images = ImageSet(tmp_path, 3, {})
    for number in (0, 2):
        photo(images.path(number), 8, 8)
    with pytest.raises(UserError, match="1 of 3 images are missing, the first is 1"):
        write_adm(images)
    images.path(1).write_bytes(images.path(0).read_bytes()[:60])
    with pytest.raises(UserError, match="00001.png: cannot be read"):
        write_adm(images)
    photo(images.path(1), 8, 4)
    with pytest.raises(UserError, match="00001.png is 4x8x3"):
        write_adm(images)
    assert not list(tmp_path.glob("*.npz")) and not list(tmp_path.glob(".*"))


def test_many_pictures_lie_in_subfolders_that_sort_by_number(tmp_path: Path) -> None:
    large = ImageSet(tmp_path, 2500, {})
    assert large.path(2499).relative_to(tmp_path).as_posix() == "02000/02499.png"
    for number in (0, 999, 1000, 2499):
        photo(large.path(number), 4, 4)
    (tmp_path / "00000" / "02000.png").write_bytes(b"")  # not its place
    assert large.there() == {0, 999, 1000, 2499}
    paths = [str(ImageSet(tmp_path, 123456, {}).path(number)) for number in range(0, 123456, 500)]
    assert paths == sorted(paths) and len({Path(p).parent for p in paths}) == 124
    assert {ImageSet(tmp_path, n, {}).path(n - 1).parent == tmp_path for n in (1, 1000)} == {True}


# conditions from a file


def test_captions_and_classes_from_a_file(models: dict[str, Path], script, tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("a red circle\n\na circle\na blue circle\n")
    done = script("scripts/sample.py", models["caption"], "--from-file", tmp_path / "captions.txt", *FAST, "--outdir", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    assert notes(tmp_path / "c", "caption") == ["a red circle", "a circle", "a blue circle"]
    (tmp_path / "metadata.csv").write_text('file_name,text\na.png,a red circle\nb.png,"a circle"\n')
    done = script("scripts/sample.py", models["caption"], "--from-file", tmp_path / "metadata.csv", *FAST, "--outdir", tmp_path / "csv")
    assert done.returncode == 0 and notes(tmp_path / "csv", "caption") == ["a red circle", "a circle"], done.stderr
    (tmp_path / "metadata.jsonl").write_text('{"text": ["a red circle", "a circle"]}\n' * 8)
    done = script("scripts/sample.py", models["caption"], "--from-file", tmp_path / "metadata.jsonl", *FAST, "--outdir", tmp_path / "list")
    assert done.returncode == 0 and set(notes(tmp_path / "list", "caption")) == {"a red circle", "a circle"}, done.stderr
    (tmp_path / "labels.txt").write_text("4\n0\n4\n")
    words = [models["label"], "--from-file", tmp_path / "labels.txt", *FAST, "--n", 4, "--outdir", tmp_path / "l"]
    assert script("scripts/sample.py", *words).returncode == 0
    assert notes(tmp_path / "l", "label") == [4, 0, 4, 4]
    (tmp_path / "labels.txt").write_text("4\n0\n3\n")
    done = script("scripts/sample.py", *words)
    assert done.returncode == 2 and "other conditions" in done.stderr


def notes(folder: Path, key: str) -> list[Any]:
    return [json.loads(Image.open(path).text["ldm"])[key] for path in ImageSet.read(folder).paths()]


def test_only_the_ends_of_lines_end_a_condition(tmp_path: Path) -> None:
    """U+2028 and U+0085 may stand in captions and in JSON strings; wrong lines are counted as an editor counts them."""
    (tmp_path / "a.txt").write_text("one\u2028line\r\n\nan\x85other\n", encoding="utf-8", newline="")
    assert read_rows(str(tmp_path / "a.txt")) == ["one\u2028line", "an\x85other"]
    (tmp_path / "a.jsonl").write_text('{"caption": "one\u2028line"}\n\n{\n', encoding="utf-8")
    with pytest.raises(UserError, match="line 3: not JSON"):
        read_rows(str(tmp_path / "a.jsonl"))


def test_cells_of_a_table_stay_as_typed_until_the_model_says_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('label,price,numbers,empty\n3,1.50,"[1, 2.5]",\n4,007,"1,2.5",\n')
    rows: Any = read_rows(str(tmp_path / "a.csv"))
    text, numbers = Key(str), Key(shape=(2,))
    assert [row["label"] for row in rows] == ["3", "4"] and rows[0]["empty"] is None
    assert [entry("price", text, row["price"], "") for row in rows] == ["1.50", "007"]
    assert [entry("numbers", numbers, row["numbers"], "").tolist() for row in rows] == [[1, 2.5]] * 2
    assert entry("price", Key(), rows[0]["price"], "") == 1.5
    (tmp_path / "a.csv").write_text('label,price\n3,"1"50\n')
    with pytest.raises(UserError, match="line 2: not a row of a CSV table"):
        read_rows(str(tmp_path / "a.csv"))


def test_layouts_and_label_maps_from_a_file(models: dict[str, Path], script, tmp_path: Path) -> None:
    rows = [{"file_name": "a.png", "boxes": [{"label": i, "box": [0.1, 0.2, 0.5, 0.9]}]} for i in (3, 7)]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "layouts.json").write_text(json.dumps(rows))
    for name in ("metadata.jsonl", "layouts.json"):
        words = ["--from-file", tmp_path / name, *FAST, "--outdir", tmp_path / "boxes"]
        assert script("scripts/sample.py", models["layout"], *words).returncode == 0
    assert [boxes[0]["label"] for boxes in notes(tmp_path / "boxes", "boxes")] == [3, 7]
    Image.fromarray(np.full((16, 16), 3, np.uint8)).save(tmp_path / "map.png")
    (tmp_path / "maps.jsonl").write_text('{"segmentation": "map.png"}\n')
    done = script("scripts/sample.py", models["semantic"], "--from-file", tmp_path / "maps.jsonl", *FAST, "--outdir", tmp_path / "maps")
    assert done.returncode == 0, done.stderr


def test_balanced_classes(models: dict[str, Path], script, tmp_path: Path) -> None:
    words = [models["label"], "--classes", "balanced", *FAST, "--outdir", tmp_path]
    done = script("scripts/sample.py", *words, "--n", 12)
    assert done.returncode == 2 and "12 images are not the same number of each of 5 classes" in done.stderr
    assert script("scripts/sample.py", *words, "--n", 10).returncode == 0
    assert ImageSet.read(tmp_path).settings["classes"] == "2 of each of 5"


@pytest.mark.parametrize(
    "model,name,content,message",
    [
        ("caption", "a.txt", "a green circle\n", "vocabulary: green"),
        ("caption", "a.jsonl", '{"label": 3}\n', "image 1: caption is missing"),
        ("caption", "a.jsonl", '{"caption": 3}\n', "image 1: caption: expected a string or a list of strings, got 3"),
        ("caption", "a.jsonl", "{\n", "line 1: not JSON"),
        ("caption", "a.txt", "\n", "there is nothing in it"),
        ("label", "a.txt", "1\nfive\n", "image 2: label 'five': there are classes 0 to 4"),
        ("label", "a.jsonl", '{"label": 5}\n', "label 5: there are classes 0 to 4"),
        ("layout", "a.jsonl", '{"boxes": [{"label": 3}]}\n', "image 1, box 0"),
        ("semantic", "a.jsonl", '{"segmentation": "nowhere.png"}\n', "nowhere.png: no such label map"),
        ("semantic", "metadata.jsonl", '{"segmentation": "../map.png"}\n', "segmentation '../map.png' is outside of"),
        ("unconditional", "a.txt", "a circle\n", "this model reads no condition"),
    ],
)
def test_wrong_files_are_one_clear_line(models, script, tmp_path: Path, model: str, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    done = script("scripts/sample.py", models[model], "--from-file", tmp_path / name, *FAST, "--outdir", tmp_path / "out")
    assert done.returncode in (2, 3) and message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_wrong_flags(models: dict[str, Path], script, tmp_path: Path) -> None:
    for more, message in (
        (["--processes", 0], "argument --processes: 0: expected at least 1"),
        (["--device", "cpu,nowhere"], "device 'nowhere' cannot be used"),
        (["--from-file", tmp_path / "none.txt"], "none.txt: no such file"),
    ):
        done = script("scripts/sample.py", models["label"], *FAST, *more, "--outdir", tmp_path)
        assert done.returncode in (2, 3) and message in done.stderr, done.stderr


def test_a_process_that_fails_ends_the_command_in_one_line() -> None:
    with pytest.raises(UserError, match="no luck"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "START", "fork")
        processes.run_processes(unlucky, [(0,), (1,)], lambda: None)
    assert not multiprocessing.active_children()


def unlucky(number: int, on_step: Callable[[], None]) -> None:
    on_step()
    if number == 1:
        raise UserError("no luck")
    time.sleep(60)


@pytest.mark.parametrize("processes_", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_disk_is_told_in_one_line_and_what_is_made_stays(processes_: int, models, tmp_path: Path, monkeypatch, capsys) -> None:
    words = [str(models["label"]), "--n", "8", "--batch", "2", *FAST, "--outdir", str(tmp_path / "set"), "--npz"]
    replace = os.replace

    def full(source: object, target: object) -> None:
        if str(target).endswith(("00005.png", ".npz")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        patch.setattr(processes, "START", "fork")
        assert sample([*words, "--processes", str(processes_)]) == 2
    told = capsys.readouterr().err
    assert "00005.png: cannot be written (No space left on device)" in told and "Traceback" not in told
    there = pictures(tmp_path / "set")
    assert "00004.png" in there and "00005.png" not in there and not list((tmp_path / "set").glob(".*.part"))
    assert sample(words) == 0 and there.items() <= pictures(tmp_path / "set").items() and len(pictures(tmp_path / "set")) == 8
