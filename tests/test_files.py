import ast
import errno
import os
import re
import resource
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.errors import MissingFile, UserError, WriteError
from ldm.system.files import MACHINE, append_line, clear_remains, save_png, write_atomically, write_text
from ldm.system.run_folder import newest_checkpoint, newest_weights, point_last_at
from ldm.system.weights import fingerprint, read_checkpoint, read_weights, save_pickled, save_weights

NOISE = np.random.default_rng(0).integers(0, 256, 30000, dtype=np.uint8)
WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text(path, "x" * 30000),
    "line": lambda path: append_line(path, "x" * 30000, durable=True),
    "weights": lambda path: save_weights(path, {"a": torch.zeros(10000)}, {}),
    "checkpoint": lambda path: save_pickled(path, {"a": torch.zeros(10000)}),
    "picture": lambda path: save_png(path, Image.fromarray(NOISE.reshape(100, 100, 3))),
    "array": lambda path: write_atomically(path, lambda beside: _save_array(beside)),
}


def _save_array(path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, NOISE)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """As on a full disk, a file cannot become larger; the system says so to whoever writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refusing(code: int) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize("kind", WRITERS)
def test_a_disk_that_is_full_is_told_with_file_and_cause(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.write_text("good\n")
    with room_for(2000), pytest.raises(WriteError, match=r"there: cannot be written \(File too large\)$"):
        WRITERS[kind](target)
    assert target.read_text().startswith("good\n") and [p.name for p in tmp_path.iterdir()] == ["there"]
    if kind != "line":
        assert target.read_text() == "good\n"


@pytest.mark.parametrize("kind", ["text", "weights", "checkpoint", "picture"])
@pytest.mark.parametrize("call", ["os.replace", "os.fsync", "pathlib.Path.touch", "pathlib.Path.mkdir"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT, errno.EPERM])
def test_whatever_the_system_refuses(kind: str, call: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "there"
    target.write_text("good")
    with monkeypatch.context() as patch:
        patch.setattr(call, refusing(code))
        with pytest.raises(WriteError) as told:
            WRITERS[kind](target)
    assert str(told.value) == f"{target}: cannot be written ({os.strerror(code)})" and told.value.exit_code == 2
    assert target.read_text() == "good" and [p.name for p in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(("call", "code"), [("os.fsync", errno.EINVAL), ("pathlib.Path.chmod", errno.EPERM)])
def test_what_a_file_system_does_not_have_is_no_failure(call: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, refusing(code))
    for name, write in WRITERS.items():
        write(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == set(WRITERS)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    for write in WRITERS.values():
        with pytest.raises(WriteError, match=r"x: cannot be written \(Not a directory: '.*/a/b'\)"):
            write(tmp_path / "a" / "b" / "x")


@pytest.mark.parametrize("kind", [name for name in WRITERS if name != "line"])
def test_a_pipe_is_written_to_and_not_replaced(kind: str, tmp_path: Path) -> None:
    """As /dev/stdout and /dev/null are."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    WRITERS[kind](tmp_path / "whole")
    with open(reader, "rb") as file:
        WRITERS[kind](tmp_path / "pipe")  # 64 KiB fit in
        assert file.read() == (tmp_path / "whole").read_bytes()
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_all_files_get_the_same_permissions(tmp_path: Path) -> None:
    for umask, mode in ((0o022, 0o644), (0o002, 0o664), (0o077, 0o600)):
        before = os.umask(umask)
        try:
            for name, write in WRITERS.items():
                write(tmp_path / f"{mode:o}" / name)
        finally:
            os.umask(before)
        found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / f"{mode:o}").iterdir()}
        assert found == dict.fromkeys(WRITERS, mode)


def test_what_killed_processes_left_is_cleared(tmp_path: Path) -> None:
    dead, mine = 2**22 + 1, os.getpid()
    names = [f".a.{dead}@{MACHINE}.part", f".b.{mine}@{MACHINE}.part", ".c.77@elsewhere.part", ".d.77.part", ".e.77@elsewhere.part"]
    for name in names:
        (tmp_path / name).write_text("half")
    os.utime(tmp_path / names[-1], (time.time() - 90000,) * 2)
    write_text(tmp_path / "new", "")  # whoever writes there first
    assert {path.name for path in tmp_path.iterdir()} == {*names[1:4], "new"}
    clear_remains(tmp_path, owned=True)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_names_as_long_as_file_systems_allow(tmp_path: Path) -> None:
    write_text(tmp_path / ("ä" * 120 + ".txt"), "x")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("links", [True, False])
def test_last_means_the_newest_good_checkpoint_with_and_without_links(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        monkeypatch.setattr(os, "symlink", refusing(errno.EPERM))
    folder = tmp_path / "checkpoints"
    for step in (9, 10, 100):
        save_pickled(folder / f"step-{step}.ckpt", {"step": step})
        save_weights(folder / f"step-{step}.ema.safetensors", {"a": torch.zeros(1)}, {})
    assert newest_checkpoint(tmp_path).name == "step-100.ckpt"
    for step in (9, 10):
        point_last_at(folder / f"step-{step}.ckpt")
        assert (folder / "last").is_symlink() == links
        assert newest_checkpoint(tmp_path).name == newest_checkpoint(folder / "last").name == f"step-{step}.ckpt"
        assert newest_weights(tmp_path).name == f"step-{step}.ema.safetensors"
    (folder / "step-10.ckpt").unlink()  # it means a file that is gone
    assert newest_checkpoint(tmp_path).name == "step-100.ckpt"
    assert not list(folder.glob(".*"))


def test_a_last_that_was_copied_as_a_file_is_a_checkpoint(tmp_path: Path) -> None:
    save_pickled(tmp_path / "checkpoints" / "last", {"step": 1, "more": "x" * 300})
    assert newest_checkpoint(tmp_path) == (tmp_path / "checkpoints" / "last").resolve()


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_text("old")

    def fail(beside: Path) -> None:
        beside.write_text("half")
        raise RuntimeError("disk")

    with pytest.raises(WriteError, match=r"x: cannot be written \(disk\)"):
        write_atomically(target, fail)
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x"]


def test_weights_carry_their_metadata(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", {"a": torch.arange(3.0)}, {"config": {"x": [1, None, "y"]}, "step": 4})
    weights, metadata = read_weights(tmp_path / "w.safetensors")
    assert torch.equal(weights["a"], torch.arange(3.0)) and metadata == {"config": {"x": [1, None, "y"]}, "step": 4}


@pytest.mark.parametrize("cut", [0, 4, 60])
def test_damaged_files_are_named(tmp_path: Path, cut: int) -> None:
    save_weights(tmp_path / "w.safetensors", {"a": torch.arange(30.0)}, {})
    save_pickled(tmp_path / "c.ckpt", {"ldm_checkpoint": 1, "a": torch.arange(30.0)})
    for file, read in (("w.safetensors", read_weights), ("c.ckpt", read_checkpoint)):
        path = tmp_path / file
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(UserError, match=file):
            read(path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"ldm_checkpoint": 1, "x": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match=r"evil\.ckpt"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


def test_fingerprints_see_names_shapes_types_and_values() -> None:
    a = {"w": torch.zeros(2, 3), "b": torch.ones(1)}
    assert fingerprint(a) == fingerprint(dict(reversed(a.items())))
    for other in ({**a, "w": torch.zeros(3, 2)}, {**a, "b": torch.ones(1).half()}, {**a, "b": torch.zeros(1)}, {"v": a["w"], "b": a["b"]}):
        assert fingerprint(other) != fingerprint(a)


def test_a_run_folder_means_its_newest_weights(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        save_weights(tmp_path / "checkpoints" / f"step-{step}.ema.safetensors", {"a": torch.zeros(1)}, {})
    assert newest_weights(tmp_path).name == "step-100.ema.safetensors"
    with pytest.raises(MissingFile):
        newest_weights(tmp_path / "nowhere")


WRITES = {
    *("write_text", "write_bytes", "save", "savez", "savez_compressed", "savefig", "save_file", "to_csv", "mkdir", "makedirs", "touch"),
    *("rename", "replace", "symlink", "symlink_to", "link", "hardlink_to", "copy", "copy2", "copyfile", "copytree", "move"),
}
PLAIN = {"open", "save_file"}  # as a function without a dot


def writes_a_file(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Name):
        name, owner = call.func.id, None
    elif isinstance(call.func, ast.Attribute):
        name, owner = call.func.attr, ast.unparse(call.func.value)
    else:
        return False
    if name == "open":
        modes = [arg.value for arg in (*call.args, *(k.value for k in call.keywords)) if isinstance(arg, ast.Constant)]
        return any(isinstance(mode, str) and re.fullmatch("[rwaxbt+]{1,4}", mode) and set(mode) & set("wax+") for mode in modes)
    if name in ("replace", "copy", "link", "move"):  # of strings, tensors and arrays as well
        return owner in ("os", "shutil")
    return name in WRITES and (owner is not None or name in PLAIN) and owner != "self"


def told(call: ast.AST, above: dict[ast.AST, ast.AST], tree: ast.Module) -> bool:
    """If a failure is reported with file and cause: within `writing`, in what `write_atomically` calls, or caught, or none writes."""
    passed = {
        n.id
        for w in ast.walk(tree)
        if isinstance(w, ast.Call) and ast.unparse(w.func) == "write_atomically"
        for n in ast.walk(w)
        if isinstance(n, ast.Name)
    }
    node = call
    while node in above:
        node = above[node]
        if isinstance(node, ast.With) and any(ast.unparse(item.context_expr).startswith("writing(") for item in node.items):
            return True
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "write_atomically":
            return True
        if isinstance(node, ast.Try) and any("OSError" in ast.unparse(h.type or ast.Constant("")) for h in node.handlers):
            return True
        if isinstance(node, ast.FunctionDef) and (
            node.name in passed or any(kind in ast.unparse(node) for kind in ("BytesIO", "StringIO"))
        ):
            return True
    return False


def test_nothing_writes_files_by_another_way(root: Path) -> None:
    """A full disk is found at every place that writes: what writes does so through ldm.system.files."""
    stray, seen = [], 0
    for path in [*root.glob("ldm/**/*.py"), *root.glob("scripts/*.py"), *root.glob("benchmarks/*.py"), root / "main.py"]:
        if path == root / "ldm" / "system" / "files.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and writes_a_file(node)]
        seen += len(calls)
        stray += [f"{path.relative_to(root)}:{call.lineno}: {ast.unparse(call)[:90]}" for call in calls if not told(call, above, tree)]
    assert not stray, "\n".join(stray)
    assert seen > 12  # the rules above do find what writes


def test_checkpoints_on_another_disk_are_the_run_s(tmp_path: Path) -> None:
    """A run is the folder that was named, wherever a link in it leads."""
    scratch, run = tmp_path / "scratch" / "big" / "checkpoints", tmp_path / "run"
    scratch.mkdir(parents=True)
    run.mkdir()
    (run / "checkpoints").symlink_to(scratch)
    save_pickled(run / "checkpoints" / "step-9.ckpt", {"step": 9})
    point_last_at(run / "checkpoints" / "step-9.ckpt")
    for path in (run, run / "checkpoints" / "last"):
        assert newest_checkpoint(path) == run / "checkpoints" / "step-9.ckpt"
